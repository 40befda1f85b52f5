"""The designs under test, by name."""

from model.designs.design import Design
from model.designs.linux_6_12 import Linux612
from model.designs.v1 import V1

DESIGNS: dict[str, Design] = {d.name: d for d in (V1(), Linux612())}

__all__ = ["DESIGNS", "Design"]
