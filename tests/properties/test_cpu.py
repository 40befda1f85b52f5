"""The claims about instructions and stack contents, each on programs written by hand."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from model.designs import DESIGNS, Design
from model.reference.values import Range
from properties.cpu import MACHINE_PROPERTIES, popped_unread
from properties.machine import word, words
from shstk.places import Judge, play
from shstk.stage import Stage

LINUX, V1 = DESIGNS["linux-6.12"], DESIGNS["v1"]
ON = ("A = P arch_prctl ENABLE SHSTK", "P call")
VFORK = (*ON, "P call", "P libc_vfork C generation=2.36")
VFORK_2019 = (*ON, "P call", "P libc_vfork C generation=2019")
SIGNAL = (*ON, "P sigaction SIGUSR1", "P kill SIGUSR1")
TOKEN = (*ON, "S = P clone T VM|THREAD|SIGHAND", "B = P map_shadow_stack 4096 token")
SMALL = ("P setrlimit 4096", *ON)
BIT63 = "0x8000000000000000"


def judged(design: Design, prop: str, *lines: str) -> Judge:
    """What the claims of a property say of the last line of a program."""
    return play(design, MACHINE_PROPERTIES[prop], lines)[1]


def wrong(design: Design, prop: str, *lines: str) -> str:
    """What is wrong with the last line, of any conjunct; '' if nothing."""
    found = judged(design, prop, *lines).wrong
    return "; ".join(f"{name}: {text}" for name, text in found.items())


def at_the_end(design: Design, *lines: str) -> Stage:
    """Where lines lead to."""
    return play(design, MACHINE_PROPERTIES["installed-ssp"], lines)[0].stage


# -- the registry ----------------------------------------------------------------------


def test_the_seven_properties() -> None:
    """The registry has the properties of the CPU level, and the life cycle's does not."""
    from properties import PROPERTIES

    assert list(MACHINE_PROPERTIES) == [
        "vfork-frames",
        "vfork-return-faults",
        "token-once",
        "guard-gap",
        "ssp-in-bounds",
        "sigreturn-round-trip",
        "installed-ssp",
    ]
    assert not set(MACHINE_PROPERTIES) & set(PROPERTIES)


def test_every_conjunct_says_where_it_is_written() -> None:
    """``where`` is the file and the line at which the decorated claim begins."""
    source = Path("properties/cpu.py").read_text().splitlines()
    for prop in MACHINE_PROPERTIES.values():
        assert prop.conjuncts and prop.source
        for conjunct in prop.conjuncts:
            file, line = conjunct.where.split(":")
            assert file == "properties/cpu.py"
            assert source[int(line) - 1].startswith("@")


def test_the_claims_know_only_the_model() -> None:
    """They import the standard library, ``model`` and each other's vocabulary, nothing else."""
    texts = [Path(f"properties/{name}.py").read_text() for name in ("cpu", "machine")]
    nodes = [n for text in texts for n in ast.walk(ast.parse(text))]
    modules = {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}
    ours = {"shstk", "counterexamples", "z3", "networkx", "tests"}
    assert not {m for m in modules if m.split(".")[0] in ours}
    assert {m for m in modules if m.startswith("properties")} == {"properties.machine"}


def test_holds_is_not_wrong_or_not_asked() -> None:
    """A conjunct holds of a move that its premise does not speak about."""
    judge = judged(LINUX, "guard-gap", *SMALL)
    assert not judge.reached and not judge.wrong


# -- vfork-frames ------------------------------------------------------------------------


def test_frames_are_kept_by_calls(design: Design) -> None:
    """A child that calls, returns from that and exits leaves its parent's frames alone."""
    judge = judged(design, "vfork-frames", *VFORK, "C call", "C ret", "C call", "C exit")
    assert judge.reached == {"frames-kept"} and not judge.wrong


def test_a_suspended_parent_is_not_judged(design: Design) -> None:
    """The claim is about the moment at which the parent resumes, and none before."""
    assert not judged(design, "vfork-frames", *VFORK, "C incsspq 1", "C call").reached


def test_a_killed_parent_does_not_resume(design: Design) -> None:
    """A parent that dies of a signal never resumes, whatever the child has done."""
    lines = ("C incsspq 1", "C call", "P sigkill")
    assert not judged(design, "vfork-frames", *VFORK, *lines).reached


def test_an_overwritten_frame_is_named(design: Design) -> None:
    """The word that differs is named with what it was."""
    text = wrong(design, "vfork-frames", *VFORK_2019, "C ret", "C call", "C exit")
    at = at_the_end(design, *ON).names["A"]
    assert isinstance(at, Range)
    assert text.startswith(f"frames-kept: the word at {at.end - 16:#x} is 0x")


def test_the_slot_of_vfork_counts_for_one_generation_only(design: Design) -> None:
    """2.36's parent returns through vfork's own slot, that of 2019 pops it unread."""
    lines = ("C incsspq 1", "C incsspq 1", "C call", "C call", "C exit")
    assert wrong(design, "vfork-frames", *VFORK, "C incsspq 1", "C call", "C exit")
    assert not wrong(design, "vfork-frames", *VFORK_2019, "C call", "C exit")
    assert wrong(design, "vfork-frames", *VFORK_2019, *lines)


def test_a_stack_that_is_gone_is_no_kept_frame() -> None:
    """v1 unmaps the parent's stack when the child disables shadow stacks; 6.12 does not."""
    lines = (*VFORK, "C arch_prctl DISABLE SHSTK", "C exit")
    assert "not mapped" in wrong(V1, "vfork-frames", *lines)
    assert not wrong(LINUX, "vfork-frames", *lines)


def test_popped_unread_counts_leading_incssp_only() -> None:
    """What the 2019 parent still has to do begins with INCSSPQ 1; 2.36's begins otherwise."""
    for lines, bytes_ in ((VFORK, 0), (VFORK_2019, 8)):
        parent = at_the_end(LINUX, *lines).thread("P")
        assert parent is not None and popped_unread(parent) == bytes_


# -- vfork-return-faults -----------------------------------------------------------------


@pytest.mark.parametrize(("lines", "is_wrong"), [(VFORK, False), (VFORK_2019, True)])
def test_returning_faults_by_generation(
    design: Design, lines: tuple[str, ...], is_wrong: bool
) -> None:
    """The child's RET out of the calling function is #CP with glibc 2.36, not with 2019's."""
    judge = judged(design, "vfork-return-faults", *lines, "C ret")
    assert judge.reached == {"near-ret-fault"}
    assert bool(judge.wrong) == is_wrong


def test_a_ret_inside_the_child_is_not_judged(design: Design) -> None:
    """A RET from what the child has called is no return from the calling function."""
    assert not judged(design, "vfork-return-faults", *VFORK, "C call", "C ret").reached


def test_a_parents_ret_is_not_judged(design: Design) -> None:
    """The claim is about the child: the parent that is back may return."""
    assert not judged(design, "vfork-return-faults", *VFORK, "C exit", "P ret").reached


# -- token-once --------------------------------------------------------------------------


def test_a_token_is_taken_once(design: Design) -> None:
    """The second RSTORSSP on a token is #CP, so the claim about it is not even asked."""
    first = judged(design, "token-once", *TOKEN, "P rstorssp B.end-8")
    assert first.reached == {"one-rstorssp", "one-user", "nobody-on-it"} and not first.wrong
    second = judged(design, "token-once", *TOKEN, "P rstorssp B.end-8", "T rstorssp B.end-8")
    assert not second.wrong


def test_a_new_write_allows_a_new_use(design: Design) -> None:
    """SAVEPREVSSP writes the next token: going to and fro is no second use."""
    there = ("P rstorssp B.end-8", "P saveprevssp")
    back = ("P rstorssp A.end-16", "P saveprevssp")
    assert not wrong(design, "token-once", *TOKEN, *there, *back, *there, "P rstorssp A.end-16")


def test_a_pivot_is_a_use_too(design: Design) -> None:
    """RSTORSSP and SAVEPREVSSP in one operation use the token at their operand."""
    judge = judged(design, "token-once", *TOKEN, "P pivot B.end-8")
    assert "one-rstorssp" in judge.reached and not judge.wrong


def test_v1_signal_frames_are_tokens() -> None:
    """On v1 another thread can go to a stack through the frame of a signal handled there."""
    lines = (*TOKEN, "P sigaction SIGUSR1", "P kill SIGUSR1", "T rstorssp A.end-16")
    assert "T is at" in wrong(V1, "token-once", *lines)
    assert not wrong(LINUX, "token-once", *lines)


def test_v1_sigreturn_leaves_the_token() -> None:
    """On v1 sigreturn and RSTORSSP of another task use the same token."""
    start = (*TOKEN, "P sigaction SIGUSR1")
    signal = ("P kill SIGUSR1", "P ret", "P rt_sigreturn")
    assert "second task" in wrong(V1, "token-once", *start, *signal, "T rstorssp A.end-16")
    assert not wrong(V1, "token-once", *start, *signal, *signal)  # delivery writes it anew


def test_a_vfork_child_leaves_a_token_on_its_parents_stack(design: Design) -> None:
    """A child that switches stacks leaves a token where its parent goes on afterwards."""
    lines = ("P vfork C", "C rstorssp B.end-8", "C saveprevssp", "C exit", "T rstorssp A.end-16")
    assert "on the stack that P runs on" in wrong(design, "token-once", *TOKEN, *lines)


# -- guard-gap, ssp-in-bounds --------------------------------------------------------------


def test_incssp_stops_at_the_gap(design: Design) -> None:
    """INCSSP at the top of a stack with another one above is a page fault."""
    lines = (*SMALL, "B = P map_shadow_stack 4096 token", "P rstorssp B.end-8")
    judge = judged(design, "guard-gap", *lines, "P incsspq 255")
    assert judge.reached == {"stays-on-its-stack"} and not judge.wrong


@pytest.mark.parametrize("step", ["P incsspq 255", "P incsspq 2", "P incsspd 255"])
def test_incssp_goes_into_a_neighbour(step: str) -> None:
    """Where two stacks touch, INCSSP leads from the lower into the upper one."""
    lines = (*SMALL, "B = P map_shadow_stack 4096 addr=A.end")
    assert "in another shadow stack" in wrong(LINUX, "guard-gap", *lines, step)


def test_to_the_top_of_a_stack_is_not_into_the_next() -> None:
    """SSP at the end of a stack means that it is empty, whatever begins there."""
    lines = (*SMALL, "B = P map_shadow_stack 4096 addr=A.end", "P incsspq 1")
    assert not wrong(LINUX, "guard-gap", *lines)
    assert wrong(LINUX, "guard-gap", *lines, "P incsspq 1")


def test_call_goes_into_a_neighbour() -> None:
    """Where a stack touches the one below, CALL leads down into it."""
    lines = (*SMALL, "B = P map_shadow_stack 8 token", "P rstorssp B", "P saveprevssp", "P call")
    below = ("N = P map_shadow_stack 4096 addr=B-4096", "P call")
    assert "in another shadow stack" in wrong(LINUX, "guard-gap", *lines, *below)


def test_a_pivot_is_no_step_into_another(design: Design) -> None:
    """RSTORSSP is how a task may go to another stack; neither claim objects."""
    lines = (*SMALL, "B = P map_shadow_stack 4096 token", "P rstorssp B.end-8", "P call")
    for prop in ("guard-gap", "ssp-in-bounds"):
        assert not wrong(design, prop, *lines)


def test_a_stack_that_grows_is_the_same_stack() -> None:
    """mremap makes the stack larger: INCSSP stays on it, but not in what was its bounds."""
    lines = (*SMALL, "P mremap A 4096 new_size=8192", "P incsspq 255")
    assert not wrong(LINUX, "guard-gap", *lines)
    assert "not between" in wrong(LINUX, "ssp-in-bounds", *lines)


def test_a_thread_has_bounds_of_its_own(design: Design) -> None:
    """A thread, a vfork child and a stack enabled anew are judged by the stack they start on."""
    lines = (*ON, "S = P clone T VM|THREAD|SIGHAND", "T call", "P vfork C", "C call")
    again = ("C arch_prctl DISABLE SHSTK", "C arch_prctl ENABLE SHSTK", "C call")
    for program in (lines[:4], lines, (*lines, *again)):
        judge = judged(design, "ssp-in-bounds", *program)
        assert "in-bounds" in judge.reached and not judge.wrong


# -- sigreturn-round-trip ------------------------------------------------------------------


def test_nested_signals_come_back(design: Design) -> None:
    """Two handlers, one inside the other: each sigreturn restores what its delivery left."""
    lines = [*SIGNAL, "P kill SIGUSR1", "P ret", "P rt_sigreturn", "P ret", "P rt_sigreturn"]
    judge = judged(design, "sigreturn-round-trip", *lines)
    assert {"restores-ssp", "only-a-frame"} <= judge.reached and not judge.wrong


def test_what_a_frame_word_is() -> None:
    """6.12's frame word is neither a token nor an address; v1's is both."""
    assert not wrong(LINUX, "sigreturn-round-trip", *SIGNAL)
    assert set(judged(V1, "sigreturn-round-trip", *SIGNAL).wrong) == {
        "word-is-no-token",
        "word-is-no-return-address",
    }


def test_a_forged_frame_is_not_delivered() -> None:
    """A frame that WRSS has changed leads elsewhere on 6.12: the kernel has not left it."""
    start = (*ON, "P arch_prctl ENABLE WRSS", *SIGNAL[2:], "P ret")
    text = wrong(
        LINUX, "sigreturn-round-trip", *start, f"P wrssq ssp ssp+16+{BIT63}", "P rt_sigreturn"
    )
    assert text.startswith("only-a-frame: sigreturn takes SSP from")


def test_a_delivery_that_fails() -> None:
    """With an alternate stack that is not mapped v1 moves SSP and fails; 6.12 only fails."""
    lines = (*SIGNAL[:-1], "P sigaltstack 0x10000 8192", "P kill SIGUSR1")
    assert "failed-delivery-keeps-ssp" in wrong(V1, "sigreturn-round-trip", *lines)
    judge = judged(LINUX, "sigreturn-round-trip", *lines)
    assert judge.reached == {"failed-delivery-keeps-ssp"} and not judge.wrong


# -- installed-ssp -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "P arch_prctl ENABLE SHSTK",
        "P clone T VM|THREAD|SIGHAND",
        "P kill SIGUSR1",
        "P rt_sigreturn",
    ],
)
def test_what_the_kernel_installs(design: Design, line: str) -> None:
    """Enabling, a new thread, delivery and sigreturn set SSP, aligned and in user space."""
    before = {
        "P arch_prctl ENABLE SHSTK": (),
        "P rt_sigreturn": (*SIGNAL, "P ret"),
    }.get(line, SIGNAL[:-1])
    judge = judged(design, "installed-ssp", *before, line)
    assert judge.reached == {"aligned", "below-task-size"} and not judge.wrong


@pytest.mark.parametrize("line", ["P fork C", "P vfork C", "P call", "P incsspd 1"])
def test_what_the_kernel_does_not_install(design: Design, line: str) -> None:
    """A child of fork has its parent's SSP, and instructions are no business of the kernel's."""
    assert not judged(design, "installed-ssp", *ON, line).reached


@pytest.mark.parametrize("value", ["ssp+12", "0x7ffffffff000"])
def test_forged_values_are_refused(design: Design, value: str) -> None:
    """sigreturn takes neither a misaligned SSP nor one beyond user space."""
    start = (*ON, "P arch_prctl ENABLE WRSS", *SIGNAL[2:], "P ret")
    for flag in (BIT63, "1"):
        forged = (f"P wrssq ssp {value}+{flag}", "P rt_sigreturn")
        assert not judged(design, "installed-ssp", *start, *forged).reached


# -- words -----------------------------------------------------------------------------------


def test_words_of_a_stack(design: Design) -> None:
    """Only what is not 0 is listed; beyond a stack, or where none is, there is nothing to list."""
    stage = at_the_end(design, *ON)
    thread, area = stage.thread("P"), stage.names["A"]
    assert thread is not None and isinstance(area, Range)
    space = stage.system.space(thread)
    back = word(space, area.end - 8)
    assert back and words(space, area.end - 64, area.end) == ((area.end - 8, back),)
    assert words(space, area.end, area.end) == ()
    assert words(space, area.end - 8, area.end + 8) is None
    assert words(None, area.start, area.end) is None
