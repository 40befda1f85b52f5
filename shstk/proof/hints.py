"""Where proofs have found what they need: instances of lemmas, by the step they are for.

A hint proves nothing.  A path is first asked about with the hinted instances alone; if that
is not *unsat*, with all.  So a stale hint costs time, and no verdict rests on one.
``python -m shstk.proof.hints`` looks for them again, over all designs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias

from model.designs import DESIGNS
from shstk.plan import families_in
from shstk.pool import Meter
from shstk.proof.instances import Only

FILE = Path(__file__).with_name("hints.txt")
HEAD = """\
# Instances of lemmas that proofs have used: the lemma, the terms, and the steps. To save time;
# nothing rests on them. `python -m shstk.proof.hints` writes this file.
"""
Hint: TypeAlias = tuple[str, tuple[str, ...]]  # a lemma, and terms as text
Hints: TypeAlias = Mapping[str, Only]  # by step


def parse(text: str) -> Hints:
    """What ``render`` wrote; a line that is something else is no hint."""
    out: dict[str, dict[str, set[tuple[str, ...]]]] = {}
    for line in text.splitlines():
        lemma, *rest = line.split("\t")
        if len(rest) == 2 and not line.startswith("#"):
            terms = tuple(t for t in rest[0].split("; ") if t)
            for step in rest[1].split():
                out.setdefault(step, {}).setdefault(lemma, set()).add(terms)
    return {
        step: {lemma: tuple(sorted(terms)) for lemma, terms in of.items()}
        for step, of in out.items()
    }


def render(used: Iterable[tuple[str, Hint]]) -> str:
    """A line for each instance, with the steps that it is for."""
    steps: dict[Hint, set[str]] = {}
    for step, hint in used:
        steps.setdefault(hint, set()).add(step)
    lines = [
        "\t".join((lemma, "; ".join(terms), " ".join(sorted(of))))
        for (lemma, terms), of in sorted(steps.items())
    ]
    return HEAD + "".join(f"{line}\n" for line in lines)


@cache
def recorded() -> Hints:
    """The hints of the project; none where the file cannot be read."""
    try:
        return parse(FILE.read_text(encoding="utf-8"))
    except OSError:
        return {}


def gathered(designs: Sequence[str], meter: Meter) -> set[tuple[str, Hint]]:
    """What the proofs of designs use, each with the hints of those before."""
    from shstk.proof.induction import Prover, enabled_steps
    from shstk.proof.invariants import of_chains, pool

    used: set[tuple[str, Hint]] = set()
    for name in designs:
        steps = enabled_steps(families_in("ordinary"))
        for without, tried in ((frozenset[str](), pool()), (CHAINS, (*pool(), *of_chains()))):
            those = [s for s in steps if s.family not in without]
            hints = parse(render(used))
            with Prover(DESIGNS[name], those, without, tried, meter.show, hints) as prover:
                kept, _ = prover.largest([i.name for i in tried])
                prover.obligations(kept, explain=False)
                used |= prover.used()
    return used


CHAINS = frozenset({"vfork-abandon"})  # without it, the lemmas about chains are tried

if __name__ == "__main__":
    FILE.write_text(render(gathered(list(DESIGNS), Meter(sys.stderr))), encoding="utf-8")
    print(f"{FILE.name}: {len(FILE.read_text(encoding='utf-8').splitlines()) - 2} instances")
