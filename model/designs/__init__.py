"""The designs under test, by name."""

from model.designs.design import Design
from model.designs.linux_6_12 import Linux612
from model.designs.v1 import V1
from model.kernel import Step

DESIGNS: dict[str, Design] = {d.name: d for d in (V1(), Linux612())}


def source_of(step: Step, design: Design | None) -> str:
    """The file and version that a step was read from, where it is the design's own too."""
    return step.source or (design.source if design else "the design's own file")


__all__ = ["DESIGNS", "Design", "source_of"]
