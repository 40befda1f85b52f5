"""Scenario files: the worked ones hold, wrong ones are refused, and nothing else ever happens."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterexamples.effects import Teller
from counterexamples.expected import ERRNO_NUMBERS, STATEMENTS, parse_outcomes, parse_statement
from counterexamples.expressions import Wrong, expression, number
from counterexamples.interpret import Run, Step, Verdict
from counterexamples.lines import NUMERIC, Do, make, operations_text, parse_line
from counterexamples.picture import pictures
from counterexamples.scenario import LINES_MAX, Scenario, ScenarioError, parse, read, write
from model.designs import X86_DESIGNS
from model.reference.operations import OPERATIONS, NewTask, Parameter

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / "counterexamples" / "scenarios").glob("*.scn"))
HEAD = "design: linux-6.12\n"


def executed(scenario: Scenario) -> list[tuple[Step, list[Verdict]]]:
    """Every step on every design, with all that is told of it; the end's verdicts come last."""
    done = []
    for name in scenario.designs:
        run = Run(scenario, X86_DESIGNS[name])
        for step in run.steps():
            if step.done is not None:
                teller = Teller(run.machine, run.names, step.before, step.after)
                assert all(who and what for who, what in map(teller.effect, step.done.effects))
                assert all(who and what for who, what in teller.changes())
            pictures(run.machine, run.names, step.after)
            done.append((step, list(step.verdicts)))
        if done:
            done[-1][1].extend(run.verdicts())
    return done


def verdicts(text: str) -> list[Verdict]:
    """What was expected and found, in order."""
    return [v for _, found in executed(parse(HEAD + text)) for v in found]


def wrong(text: str) -> ScenarioError:
    """Why a scenario is wrong, when read or when executed."""
    with pytest.raises(ScenarioError) as error:
        executed(parse(text))
    return error.value


# -- the worked scenarios ----------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_worked_scenario_is_as_it_expects(path: Path) -> None:
    """Every expectation of a worked scenario is met on every design that it names."""
    scenario = read(path)
    found = [verdict for _, verdicts in executed(scenario) for verdict in verdicts]
    assert scenario.expects and scenario.story
    assert [v for v in found if not v.met] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_writing_and_reading_is_the_identity(path: Path) -> None:
    """A scenario that is written and read again is the same, and so is what is written."""
    scenario = read(path)
    again = parse(write(scenario))
    assert again == scenario
    assert write(again) == write(scenario)


def test_every_operation_but_a_few_is_worked() -> None:
    """The worked scenarios use most operations."""
    used = {line.operation for f in FILES for line in read(f).lines if isinstance(line, Do)}
    assert len(used) >= 25
    assert len(FILES) >= 18


def test_the_documentation_lists_the_operations() -> None:
    """SCENARIOS.md has every operation as it is registered; every form of statement too."""
    page = (ROOT / "SCENARIOS.md").read_text(encoding="utf-8")
    shown = page.split("<!-- operations -->\n")[1].split("<!-- end -->")[0]
    assert shown.strip() == operations_text().strip()
    for form, _, _ in STATEMENTS:
        assert form.replace("|", r"\|") in page, form


def test_the_example_in_the_documentation_holds() -> None:
    """The first scenario of SCENARIOS.md is as it expects."""
    page = (ROOT / "SCENARIOS.md").read_text(encoding="utf-8")
    found = executed(parse(page.split("```\n")[1]))
    assert found and all(v.met for _, verdicts in found for v in verdicts)


# -- what can be written -----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("64K", 65536), ("32T", 32 << 40), ("0x1000", 4096), ("0xffff_ffff", 0xFFFFFFFF)],
)
def test_numbers(text: str, value: int) -> None:
    """Numbers are decimal with a unit, or hexadecimal."""
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1e3", "0x", "0x_", "8MB", "1" * 30, "16777216T", "٣"])
def test_wrong_numbers_are_refused(text: str) -> None:
    """What is no number below 2^64 is refused with a sentence."""
    with pytest.raises(Wrong, match="a number is"):
        number(text)


@pytest.mark.parametrize("text", ["", "+", "A.", "A..end", "a+b+c+d", "A*8", "-8", "A.begin", "8 "])
def test_wrong_addresses_are_refused(text: str) -> None:
    """Sums of more than three terms, unknown parts and other signs are refused."""
    with pytest.raises(Wrong):
        expression(text)


def test_addresses_wrap() -> None:
    """Sums are modulo 2^64."""
    assert expression("0-8").value(lambda term: 0) == 2**64 - 8


def test_arguments_by_position_by_name_and_as_flags() -> None:
    """The same line, written in two ways, is the same line."""
    one = parse_line("P map_shadow_stack 64K 0x100000000 token")
    assert one == parse_line("P map_shadow_stack token addr=0x100000000 size=64K")
    assert one.text == "P map_shadow_stack 64K 0x100000000 token"
    assert make("P", "mmap", {"size": 4096, "addr": None, "fixed": False}).text == "P mmap 0x1000"


def test_comments_and_exceptions() -> None:
    """``#`` begins a comment unless it is the name of an exception."""
    line = parse(HEAD + "P ret => #PF 0x44, dies # it has #CP too\n").lines[0]
    assert isinstance(line, Do)
    assert [o.text for o in line.expected] == ["#PF 0x44", "dies"]


WRONG = [
    ("P call\n", 1, "there is no design"),
    ("design: v7\n", 1, "there is no design 'v7'; write"),
    ("design: v1 v1\n", 1, "named twice"),
    ("design: v1\ndesign: v1\n", 2, "stands on line 1 already"),
    ("colour: red\n", 1, "no header 'colour'"),
    (HEAD + "rlimit: lots\n", 2, "no number"),
    (HEAD + "kernel: fast\n", 2, "kernel: stepwise"),
    (HEAD + "expect:\n", 2, "says nothing"),
    (HEAD + "expect: P is happy\n", 2, "right are: TASK dies"),
    (HEAD + "expect v1: P is alive\n", 2, "does not run on v1"),
    (HEAD + "expect: Q is alive\n", 2, "no line makes a task Q"),
    (HEAD + "expect: A is mapped\n", 2, "A is bound on no line"),
    (HEAD + "expect: P dies of boredom\n", 2, "a cause is"),
    (HEAD + "expect: WARN of dogs\n", 2, "no warning"),
    (HEAD + "P call\nexpect: P is alive\n", 3, "before the first operation"),
    (HEAD + "P\n", 2, "a line is"),
    (HEAD + "ssp call\n", 2, "has a meaning already"),
    (HEAD + "P cal\n", 2, "did you mean call?"),
    (HEAD + "Q call\n", 2, "no task 'Q'"),
    (HEAD + "P munmap 4096\n", 2, "needs SIZE; right is `TASK munmap ADDR SIZE`"),
    (HEAD + "P ret 1 2\n", 2, "one argument too many"),
    (HEAD + "P ret imm=1 imm=1\n", 2, "given twice"),
    (HEAD + "P ret immm=1\n", 2, "no argument 'immm'"),
    (HEAD + "P mmap 4096 fixed=1\n", 2, "the bare word"),
    (HEAD + "P mmap 4096 prot=rwx\n", 2, "none of none, r, rw"),
    (HEAD + "P load A\n", 2, "bind it with `A = TASK"),
    (HEAD + "A = P mmap 4096\nP load P+A.end\n", 3, "P is bound on no line"),
    (HEAD + "P load Q.ssp\n", 2, "no task Q"),
    (HEAD + "A = P call\n", 2, "nothing that A could name"),
    (HEAD + "A = P mmap 4096\nA = P mmap 4096\n", 3, "bound on line 2 already"),
    (HEAD + "C = P clone C VM\n", 2, "a task and a range"),
    (HEAD + "P call =>\n", 2, "nothing is expected"),
    (HEAD + "P call => EWHAT\n", 2, "no errno 'EWHAT'"),
    (HEAD + "P call => *\n", 2, "cannot be expected"),
    (HEAD + "P call => 8\n", 2, "gives no number"),
    (HEAD + "P call => #UD 3\n", 2, "no error code"),
    (HEAD + "P call => v1: ok\n", 2, "not in the line"),
    (HEAD + "P call #CP 1\n", 2, "write `=> #CP …`"),
    (HEAD + "P call \x1b[31m\n", 2, "cannot be printed"),
    (HEAD + "P call" + " " * 2000 + "\n", 2, "longer than"),
    (HEAD + "\n" * LINES_MAX, LINES_MAX + 1, "more than"),
    # What only turns out when it is executed.
    (HEAD + "P exit\nP call\n", 3, "P is gone (exit(0)); alive are: none"),
    (HEAD + "P vfork C\nP call\n", 3, "not in user mode"),
    (HEAD + "P vfork C\nC exit\nP vfork C\n", 4, "give the new one another name"),
    (HEAD + "P clone C VM|NEWMOON\n", 2, "no clone flag 'NEWMOON'"),
    (HEAD + "P kill SIGNAL\n", 2, "no signal"),
    (HEAD + "P ret 65536\n", 2, "65535"),
    (HEAD + "A = P mmap 128T\nP load A\n", 3, "its line gave nothing"),
    (HEAD + "X = P load rsp\nP load X.end\n", 3, "a number and has no end"),
    (HEAD + "P longjmp nowhere\n", 2, "no setjmp"),
]


@pytest.mark.parametrize(("text", "line", "words"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_said_with_its_line(text: str, line: int, words: str) -> None:
    """A wrong scenario is one message of one line, at the right line."""
    error = wrong(text)
    assert (error.line, str(error)) == (line, f"scenario:{line}: {error.message}")
    assert words in error.message and "\n" not in error.message


def test_files_that_are_no_text(tmp_path: Path) -> None:
    """What cannot be read, and what is not UTF-8, is refused like the rest."""
    binary = tmp_path / "binary.scn"
    binary.write_bytes(b"design: v1\nP call \xff\n")
    for path, line in ((binary, 2), (tmp_path, 0), (tmp_path / "none.scn", 0)):
        with pytest.raises(ScenarioError) as error:
            read(path)
        assert error.value.line == line


# -- comparing ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome",
    ["ok", "0", "#PF 0x44", "#PF", "#CP error 1", "#UD", "dies", "WARN double free", "blocks"],
)
def test_outcomes_are_read(outcome: str) -> None:
    """Each outcome of the vocabulary is read, alone and with others."""
    assert [o.text for o in parse_outcomes(f"{outcome}, EPERM")] == [outcome, "EPERM"]


def test_an_outcome_that_is_not_met_says_what_was_found() -> None:
    """What was found is said in the words of outcomes."""
    (found,) = verdicts("P arch_prctl ENABLE\nP ret => EPERM\n")
    assert (found.met, found.found) == (False, "#PF 0x44, dies")
    (found,) = verdicts("P mmap 0 => ok\n")
    assert (found.met, found.found) == (False, "EINVAL")
    (found,) = verdicts("P rdsspq => 8\n")
    assert (found.met, found.found) == (False, "0x0")
    (found,) = verdicts("P vfork C => ok, blocks\n")[:1]
    assert (found.met, found.found) == (True, "blocks")


def test_statements_that_are_not_met_say_what_is_so() -> None:
    """Each statement about the end can fail, and then says what is so instead."""
    statements = {
        "P dies": "P is alive",
        "C is alive": "C dies of SIGSEGV (#PF error 0x44 at 0x7ffff7e00000)",
        "C dies of SIGSEGV (#PF error 0x4)": "C dies of SIGSEGV (#PF error 0x44 at 0x7ffff7e00000)",
        "WARN": "no WARN",
        "2 shadow stacks are left in P's mm": "1 in P's mm",
        "P owns no shadow stacks": "P owns 1",
        "A is not mapped": "mapped",
        "A+8M is mapped": "not mapped",
        "P's ssp is A": "A.end (0x7ffff7e00000)",
        "C's size is 8M": "C dies of SIGSEGV (#PF error 0x44 at 0x7ffff7e00000)",
        "P's features are none": "SHSTK",
        "P's locked features are SHSTK": "none",
    }
    head = "".join(f"expect: {s}\n" for s in statements)
    found = verdicts(f"{head}A = P arch_prctl ENABLE\nP fork C\nC ret\n")
    assert [(v.expected, v.found) for v in found] == list(statements.items())
    assert not any(v.met for v in found)


def test_a_cause_is_compared_by_words() -> None:
    """A cause is met by its beginning or by the exception in it, at a word's end."""
    for cause, met in (
        ("SIGSEGV", True),
        ("SIGSEGV (#PF error 0x44)", True),
        ("#PF error 0x44", True),
        ("#PF", True),
        ("#PF error 0x4", False),
        ("SIGBUS", False),
    ):
        found = verdicts(f"expect: P dies of {cause}\nP arch_prctl ENABLE\nP ret\n")
        assert [v.met for v in found] == [met], cause


def test_a_range_that_is_mapped_in_part() -> None:
    """A range is mapped where all of it is, and not mapped where nothing of it is."""
    text = "expect: A is mapped\nexpect: A is not mapped\nA = P mmap 64K\nP munmap A 4096\n"
    assert [(v.met, v.found) for v in verdicts(text)] == [(False, "mapped in part")] * 2


def test_stepwise_nothing_goes_on_by_itself() -> None:
    """With ``kernel: stepwise`` a clone is finished by the kernel's own step."""
    text = "kernel: stepwise\nP arch_prctl ENABLE\nP vfork C => blocks\nP kernel => blocks\n"
    assert all(v.met for v in verdicts(text + "C call => ok\nC exit\nC kernel\nC kernel => dies\n"))


def test_a_limit_is_beside_the_image() -> None:
    """``limit`` is what can be mapped beside the program image."""
    assert all(v.met for v in verdicts("limit: 8K\nP mmap 8K => ok\nP mmap 4K => ENOMEM\n"))


FACTS = {
    "a jump to an address that is not canonical is #GP": "P jmp 0x8000000000000000 => #GP 0, dies",
    "a jump out of user space faults when the next instruction is fetched": (
        "P jmp 0x7ffffffff000 => #PF 0x15, dies"
    ),
    "MOV is #GP where PUSH is #SS, and that is SIGBUS": (
        "expect: P dies of SIGSEGV (#GP error 0x0)\nexpect: C dies of SIGBUS (#SS error 0x0)\n"
        "P clone C VM stack=0x8000000000000000\nC push 1 => #SS, dies\n"
        "P load 0x8000000000000000 => #GP, dies"
    ),
    "a signal's number is what its group dies of": (
        "expect: P dies of SIGTERM\nexpect: T dies of SIGTERM\n"
        "P clone T VM|THREAD|SIGHAND\nT kill SIGTERM => dies"
    ),
    "SIG_DFL takes a handler away": (
        "P sigaction SIGUSR1\nP kill SIGUSR1 => handler\nP handler_return\n"
        "P sigaction SIGUSR1 default\nP kill SIGUSR1 => dies"
    ),
    "a thread does not inherit the alternate stack": (
        "S = P mmap 64K\nP sigaltstack S S.size\nP sigaction SIGUSR1\n"
        "P clone T VM|THREAD|SIGHAND\nT kill SIGUSR1 => handler\nP kill SIGUSR1 => handler\n"
        "P load rsp => 0x403000\nP munmap S S.size\n"
        "T load rsp => 0x403000\nP load rsp => #PF 4, dies"
    ),
    "sigreturn to an address that is not canonical is #GP": (
        "P sigaction SIGUSR1\nP kill SIGUSR1 => handler\nP store rsp+8 0x8000000000000000\n"
        "P handler_return => #GP 0, dies"
    ),
    "STATUS gives nothing where it cannot be copied": (
        "A = P arch_prctl STATUS => 0\nP munmap 0x10000000 256M\nP arch_prctl STATUS => EFAULT"
    ),
}


@pytest.mark.parametrize("text", FACTS.values(), ids=FACTS)
def test_facts_about_the_machine(text: str) -> None:
    """Corners of the machine that scenarios of random lines have come to."""
    assert [v for v in verdicts(text + "\n") if not v.met] == []


# -- nothing else ever happens -----------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "P clone D VM\nD clone E VM|THREAD|SIGHAND\nE contend 0xffffffffffffffff\nE exit_group\n",
        "P arch_prctl ENABLE\n" + "".join(f"P fork C{n}\n" for n in range(70)),
        "".join("P mmap 4096\n" for _ in range(600)),
        "P arch_prctl ENABLE\nP arch_prctl ENABLE WRSS\nB = P map_shadow_stack 32T token\n"
        "P pivot B.end-8\nP call\nP setjmp x\nP wrssq B+64 B+73\nP pivot B+64\n"
        "P wrssq B.end-16 0\nP longjmp x\n",
    ],
)
def test_too_much_is_refused_soon(text: str) -> None:
    """What would take for ever, or all memory, is refused within seconds, or comes to an end."""
    start = time.monotonic()
    for design in X86_DESIGNS:
        try:
            executed(parse(f"design: {design}\n{text}"))
        except ScenarioError as error:
            assert "\n" not in str(error)
    assert time.monotonic() - start < 60


def test_retrying_for_ever_is_refused() -> None:
    """v1's retry of munmap with a lock that stays contended ends with a message."""
    text = (
        "design: v1\nkernel: stepwise\nP arch_prctl ENABLE\nP clone D VM\nP kernel\n"
        "D clone E VM|THREAD|SIGHAND\nD kernel\nD contend 0x7fffffffffffffff\nD exit\nE sigkill\n"
    )
    scenario = parse(text + "D kernel\n" * 1_000)
    assert all(v.met for _, found in executed(scenario) for v in found)


NUMBERS = (
    "0 1 8 4096 64K 8M 4G 32T 128T 0xffffffffffffffff 0x7ffffffff000 0x8000000000000000 "
    "A A.end A.end-8 A.size B.end-8 X ssp ssp-8 ssp+4 rsp rip base+size C.ssp P.base"
).split()
WORDS = {
    "flags": ["0", "VM", "VFORK", "VM|VFORK", "VM|THREAD|SIGHAND", "VM|THREAD|SIGHAND|SETTLS"],
    "signal": ["SIGUSR1", "SIGSEGV", "SIGTERM", "SIGKILL"],
    "step": ["exit_mm_release", "clone_commit", "late_clone_failure", "start_thread", "call"],
}
OUTCOMES = ["ok", "dies", "#PF", "#CP 1", "EINVAL", "blocks", "WARN", "handler", "A", "0"]
TASKS = st.sampled_from(["P", "P", "P", "C", "D"])


def arguments(parameter: Parameter) -> st.SearchStrategy[str]:
    """Words for a parameter, right by form."""
    if parameter.choices:
        return st.sampled_from(parameter.choices)
    if parameter.kind is NewTask:
        return st.sampled_from(["C", "D", "E"])
    if parameter.kind in NUMERIC:
        return st.sampled_from(NUMBERS)
    return st.sampled_from(WORDS.get(parameter.name, ["here", "there"]))


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A line with a known operation and arguments of the right form."""
    operation = OPERATIONS[draw(st.sampled_from(sorted(OPERATIONS)))]
    words = [draw(TASKS), operation.name]
    for parameter in operation.parameters:
        if parameter.kind is bool:
            words += [parameter.name] * draw(st.booleans())
        elif parameter.required or draw(st.integers(0, 3)) == 0:
            words.append(f"{parameter.name}={draw(arguments(parameter))}")
    bind = draw(st.sampled_from(["", "", "A = ", "B = ", "X = "]))
    outcome = draw(st.sampled_from(["", "", *(f" => {o}" for o in OUTCOMES)]))
    return bind + " ".join(words) + outcome


START = ["P arch_prctl ENABLE", "P sigaction SIGSEGV", "P sigaction SIGILL", "P call"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(X86_DESIGNS)),
    st.booleans(),
    st.lists(lines(), max_size=25),
    st.integers(0, len(START)),
)
def test_right_lines_never_end_in_a_traceback(
    design: str, stepwise: bool, text: list[str], start: int
) -> None:
    """Lines that are right by form are executed, or are a ScenarioError; nothing else."""
    good = [f"design: {design}", *["kernel: stepwise"] * stepwise, *START[:start]]
    for line in text:
        try:
            executed(parse("\n".join([*good, line])))
        except ScenarioError as error:
            assert "\n" not in str(error)
        else:
            good.append(line)
    scenario = parse("\n".join(good))
    assert parse(write(scenario)) == scenario


TOKENS = [
    *OPERATIONS,
    *NUMBERS,
    *OUTCOMES,
    *(word for words in WORDS.values() for word in words),
    *(form for form, _, _ in STATEMENTS),
    *"P C = => # : , design: expect: expect linux-6.12 v1 rlimit: limit: kernel: stepwise".split(),
    *"picture token fixed unlimited ENABLE SHSTK mapped alive".split(),
    "\n",
    "\n",
    "\n",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=60), st.booleans())
def test_token_soup_never_ends_in_a_traceback(tokens: list[str], headed: bool) -> None:
    """Words of the format in any order are a scenario or a ScenarioError."""
    text = (HEAD if headed else "") + " ".join(tokens).replace(" \n ", "\n")
    try:
        executed(parse(text))
    except ScenarioError as error:
        assert "\n" not in str(error)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_never_end_in_a_traceback(data: bytes) -> None:
    """Any text is a scenario or a ScenarioError, whose message can be printed."""
    for encoding in ("latin-1", "utf-16-le"):
        try:
            executed(parse(HEAD + data.decode(encoding, "replace")))
        except ScenarioError as error:
            assert str(error).isprintable()


def test_errno_names_are_linux_names() -> None:
    """An errno can be expected by any name that Linux has for it."""
    assert ERRNO_NUMBERS["EOPNOTSUPP"] == ERRNO_NUMBERS["ENOTSUP"] == 95


def test_statements_read_what_they_are_written_as() -> None:
    """One statement of each form is read."""
    for text in (
        "C dies",
        "C dies of exit(0)",
        "P is alive",
        "no WARN double free",
        "1 shadow stack is left in P's mm",
        "P owns no shadow stacks",
        "A.end-8 is not mapped in P's mm",
        "P's rip is 0x401000",
        "P's features are SHSTK WRSS",
        "P's locked features are none",
    ):
        assert parse_statement(text).text == text
