"""Certificates: proofs that cvc5 writes down, for a checker that is no solver.

They are in the Cooperating Proof Calculus (CPC), whose rules are in cvc5's sources
(``proofs/eo/cpc``); the checker is Ethos.  A certificate refers to its script, so that the
checker compares the proof's assumptions with the script's assertions.  Once the file's
``include`` can be found, ``ethos FILE`` says ``correct``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shstk.errors import UserError
from shstk.proof.batch import Batch
from shstk.proof.engines import NO_CVC5, SETTINGS, cvc5_run
from shstk.proof.smtlib import file_name

# Writing down the rewriting of words may take a thousand times as long as the rewriting.
RLIMIT = 100_000
OPTIONS = {
    "produce-proofs": "true",
    "proof-granularity": "dsl-rewrite",
    "proof-print-reference": "true",
}
INCLUDE = '(include "Cpc.eo")\n'
_TRUSTED = re.compile(r":rule trust\b")


def certificate(script: str, rlimit: int = RLIMIT, reference: str = "script.smt2") -> str | None:
    """cvc5's proof that a script is unsat, or None if it finds none within ``rlimit``.

    None, too, if a step of it says no more than "trust me".  ``reference`` is the file that
    the script is in.
    """
    try:
        import cvc5
    except ImportError:
        raise UserError(NO_CVC5) from None
    options = SETTINGS["cvc5"] | OPTIONS | {"rlimit-per": str(rlimit)}
    solver, answer = cvc5_run(script, options)
    if answer != "unsat":
        return None
    proof = solver.getProof(cvc5.ProofComponent.FULL)[0]
    said = solver.proofToString(proof, cvc5.ProofFormat.CPC)
    body = (said.decode() if isinstance(said, bytes) else str(said)).strip()
    body = body.removeprefix("(").removesuffix(")").strip()
    return None if _TRUSTED.search(body) else f'{INCLUDE}(reference "{reference}")\n{body}\n'


@dataclass(frozen=True)
class Written:
    """A goal and the file of its certificate, or None where there is none."""

    batch: str
    goal: str
    path: Path | None


def write_certificates(
    batches: Sequence[Batch], directory: Path, limit: int | None = None, rlimit: int = RLIMIT
) -> list[Written]:
    """Write a certificate for each goal (the first ``limit`` goals).

    Next to each is the script it is about, as ``.smt2``.  Raises ``UserError`` where nothing
    can be written.
    """
    asked = [(b, g) for b in batches for g in b.goals][:limit]
    out = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for batch, goal in asked:
            path = None
            script = directory / file_name(f"{batch.name}/{goal.name}")
            content = certificate(batch.script(goal), rlimit, script.name)
            if content is not None:
                script.write_text(batch.script(goal))
                path = script.with_suffix(".cpc")
                path.write_text(content)
            out.append(Written(batch.name, goal.name, path))
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{directory}: not a directory") from None
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}") from None
    return out
