"""What a picture of an address space shows, and how addresses are called."""

from __future__ import annotations

from counterexamples.effects import Teller
from counterexamples.interpret import Run, Step
from counterexamples.picture import pictures
from counterexamples.render import WIDTH
from counterexamples.scenario import parse
from model.designs import DESIGNS


def run(text: str, design: str = "linux-6.12") -> tuple[Run, Step]:
    """A scenario executed, and its last step."""
    scenario = parse(f"design: {design}\n{text}")
    ran = Run(scenario, DESIGNS[design])
    step = list(ran.steps())[-1]
    return ran, step


def drawn(text: str, design: str = "linux-6.12") -> list[str]:
    """The picture at the end, its blanks squeezed."""
    ran, _ = run(text, design)
    lines = pictures(ran.machine, ran.names, ran.view)
    assert all(len(line) <= WIDTH for line in lines)
    return [" ".join(line.split()) for line in lines]


def told(text: str) -> list[str]:
    """What is told of the last step."""
    ran, step = run(text)
    assert step.done is not None
    teller = Teller(ran.machine, ran.names, step.before, step.after)
    rows = [*(teller.effect(effect) for effect in step.done.effects), *teller.changes()]
    return [f"{who}: {what}" for who, what in rows]


def test_a_stack_with_its_owner_its_base_and_its_gap() -> None:
    """A shadow stack is drawn with size, kind and owner, SSP in it, base and guard gap below."""
    assert drawn("A = P arch_prctl ENABLE\nP call\n") == [
        "mm0 of P",
        "0x7ffff7600000-0x7ffff7e00000 8 MiB A: shadow stack (arch_prctl) of P",
        "P.ssp → 0x7ffff7dffff8 0x0000000000401007 return address",
        "0x7ffff7dffff0 0x0000000000000000",
        "...",
        "0x7ffff7600000 P's base, size 8 MiB",
        "0x7ffff75ff000-0x7ffff7600000 4 KiB guard gap of A",
        "the program image stack 132 KiB, arena 256 MiB, text 1 MiB",
    ]


def test_an_empty_stack() -> None:
    """SSP of an empty stack is at its top."""
    assert "P.ssp → 0x7ffff7e00000 the top" in drawn("P arch_prctl ENABLE\n")


def test_what_lies_on_a_stack_is_decoded() -> None:
    """Signal frames, tokens of both kinds and return addresses are said in words."""
    lines = drawn(
        "A = P arch_prctl ENABLE\nP call\nP sigaction SIGUSR1\nP kill SIGUSR1\n"
        "B = P map_shadow_stack 64K token\nC = P map_shadow_stack 64K token\nP rstorssp B.end-8\n"
    )
    for wanted in (
        "0x7ffff7ffeff8 0x00007ffff7dfffeb previous-ssp token: A.end-24",
        "0x7ffff7fedff8 0x00007ffff7fee001 restore token",
    ):
        assert any(line.endswith(wanted) for line in lines), wanted
    frame = drawn("A = P arch_prctl ENABLE\nP call\nP sigaction SIGUSR1\nP kill SIGUSR1\n")
    assert "0x7ffff7dffff0 0x80007ffff7dffff8 signal frame: SSP was A.end-8" in frame
    assert "P.ssp → 0x7ffff7dfffe8 0x0000000000403000 return address: the restorer" in frame


def test_who_is_where_nothing_is_mapped() -> None:
    """An SSP in an unmapped stack and a base that is stale are still drawn."""
    lines = drawn("A = P arch_prctl ENABLE\nP call\nP vfork C\nP sigkill\n")
    assert "C.ssp → 0x7ffff7dffff8 A.end-8, not mapped" in lines
    lines = drawn("A = P arch_prctl ENABLE\nP call\nP vfork C\nP sigkill\n", "v1")
    assert "0x7ffff77ff000 C's base, size 8 MiB, A is not mapped" in lines
    lines = drawn("B = P arch_prctl ENABLE\nP arch_prctl DISABLE\n")
    assert "0x7ffff7600000 P's base, size 0 (freed), B is not mapped" in lines


def test_two_tasks_on_one_stack() -> None:
    """Tasks that are on the same word share a marker."""
    lines = drawn("P arch_prctl ENABLE\nP call\nP vfork C\n")
    assert any(line.startswith("P.ssp, C.ssp → 0x7ffff7dffff8") for line in lines)


def test_gaps_of_v1_are_on_both_sides_and_shared() -> None:
    """v1's guard gaps are above and below; two stacks side by side share one."""
    lines = drawn("A = P arch_prctl ENABLE\nB = P map_shadow_stack 64K\n", "v1")
    assert [line for line in lines if "gap" in line] == [
        "0x7ffff7fff000-0x7ffff8000000 4 KiB guard gap of A",
        "0x7ffff77fe000-0x7ffff77ff000 4 KiB guard gap of A and B",
        "0x7ffff77ed000-0x7ffff77ee000 4 KiB guard gap of B",
    ]


def test_a_gap_that_is_not_there() -> None:
    """A gap in which something is mapped is said to be none."""
    lines = drawn("B = P map_shadow_stack 64K\nC = P map_shadow_stack 64K addr=B-64K\n")
    assert "0x7ffff7fee000-0x7ffff7fef000 4 KiB no guard gap of B: it is mapped" in lines


def test_every_mm_is_drawn() -> None:
    """After fork each mm has its picture, in which the copies have the names of the originals."""
    lines = drawn("P arch_prctl ENABLE\nB = P clone T VM|THREAD|SIGHAND\nP fork C\n")
    assert [line for line in lines if line.startswith("mm")] == ["mm0 of P, T", "mm1 of C"]
    assert "0x7ffff6c00000-0x7ffff7400000 8 MiB B: shadow stack (orphan copy)" in lines
    assert "0x7ffff7600000-0x7ffff7e00000 8 MiB A: shadow stack (fork's copy) of C" in lines
    assert drawn("P exit\n") == ["no address space is left"]


def test_looking_changes_nothing() -> None:
    """Drawing populates no page: a store to the stack faults as on an absent one."""
    text = "P arch_prctl ENABLE\npicture\nP store base+size-8 1 => #PF 6\n"
    ran, step = run(text)
    assert [v.met for v in step.verdicts] == [True]


def test_names_of_lines_come_before_letters() -> None:
    """Letters are for stacks without a name, and never one that the scenario uses itself."""
    lines = drawn("P arch_prctl ENABLE\nP map_shadow_stack 4096\nA = P map_shadow_stack 4096\n")
    named = [line.split()[3] for line in lines if "KiB" in line and ": shadow" in line]
    assert named == ["S:", "A:"]


def test_a_fault_says_where_it_is() -> None:
    """The address of a page fault is told by its distance from a stack, mapped or not."""
    start = "A = P arch_prctl ENABLE\nP call\nP vfork C\nP sigkill\n"
    assert told(start + "C call\n")[0] == (
        "C: CALL raises #PF error 0x46 (write, user, shadow stack; not present) at "
        "0x7ffff7dffff0, 16 bytes below the top of A, which is not mapped"
    )
    assert told("A = P arch_prctl ENABLE\nP ret\n")[0].endswith("at 0x7ffff7e00000, the top of A")
    assert told("A = P arch_prctl ENABLE\nP store A+8 0\n")[0].endswith("above the bottom of A")
    assert told("A = P arch_prctl ENABLE\nP load A-8\n")[0].endswith(
        "8 bytes below the bottom of A"
    )
    assert told("P load 8\n")[0].endswith("(read, user; not present) at 0x8")


def test_only_what_changed_is_told() -> None:
    """A step tells what is different since the one before, and nothing else."""
    start = "A = P arch_prctl ENABLE\n"
    assert told(start + "P call\n") == ["P: SSP A.end → A.end-8"]
    assert told(start + "P call next\n") == []
    assert told(start + "P arch_prctl ENABLE WRSS\n")[1:] == ["P: features +WRSS"]
    assert told(start + "P arch_prctl LOCK SHSTK\n")[1:] == ["P: features_locked +SHSTK"]
    assert told(start + "P mseal A A.size\n")[1:] == ["~: A in mm0: is sealed"]
    assert told(start + "P mprotect A A.size r\n")[1:] == ["~: A in mm0: rw → r"]


def test_who_a_freed_stack_belonged_to_is_told() -> None:
    """A kernel munmap says whose stack it hits: v1's worker frees its creator's."""
    scenario = parse("design: v1\nA = P arch_prctl ENABLE\nP io_uring_worker W\nW exit\n")
    ran = Run(scenario, DESIGNS["v1"])
    step = list(ran.steps())[-1]
    assert step.done is not None
    teller = Teller(ran.machine, ran.names, step.before, step.after)
    assert teller.effect(step.done.effects[0]) == (
        "W",
        "the kernel unmaps A (8 MiB) on its behalf: shadow stack (arch_prctl) of P",
    )
