"""What the worlds share whose tasks, mms and addresses are identities: the finite and the symbolic.

What is free, and what the primitives of ``model.world`` come to there.  How objects are told
apart, chosen and counted is each world's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from model.kernel import FAMILIES
from model.state import (
    Addr,
    Ctl,
    Field,
    Group,
    Kind,
    Mm,
    Record,
    Sort,
    Task,
    fields,
)
from model.world import PAGE_SIZE, Cond, Term


class Identities:
    """The primitives, by way of those that a world has to have."""

    if TYPE_CHECKING:
        switched_off: frozenset[str]

        def read(self, record: Record, field: Field[Any]) -> object: ...
        def write(self, record: Record, field: Field[Any], value: object) -> None: ...

    def _exists(self, sort: Sort, predicate: Callable[[Any], Cond]) -> Cond:
        """Some object of a sort satisfies ``predicate``."""
        raise NotImplementedError

    def _any(self, sort: Sort, name: str) -> Any:
        """An arbitrary object."""
        raise NotImplementedError

    def _fresh(self, sort: Sort, name: str, free: Callable[[Any], Cond]) -> Any:
        """An arbitrary object that is free."""
        raise NotImplementedError

    def _flag(self, name: str, family: str) -> Cond:
        """An arbitrary yes or no: is the family granted?"""
        raise NotImplementedError

    def _never(self) -> Cond:
        """No."""
        raise NotImplementedError

    def require(self, condition: Cond | bool) -> None:
        """The step can happen only where ``condition`` holds."""
        raise NotImplementedError

    # -- quantifiers -------------------------------------------------------------
    def exists_task(self, predicate: Callable[[Task], Cond]) -> Cond:
        return self._exists(Sort.TASK, predicate)

    def exists_addr(self, predicate: Callable[[Addr], Cond]) -> Cond:
        return self._exists(Sort.ADDR, predicate)

    def exists_mm(self, predicate: Callable[[Mm], Cond]) -> Cond:
        return self._exists(Sort.MM, predicate)

    # -- choices -----------------------------------------------------------------
    def may(self, family: str, name: str = "") -> Cond:
        if family not in FAMILIES:
            raise ValueError(f"unknown event family {family!r} in the text")
        return self._never() if family in self.switched_off else self._flag(name or family, family)

    def any_addr(self, name: str) -> Addr:
        return cast(Addr, self._any(Sort.ADDR, name))

    def some_task(self, predicate: Callable[[Task], Cond]) -> Task:
        found = cast(Task, self._any(Sort.TASK, "other"))
        self.require(predicate(found))
        return found

    def fresh_task(self, name: str) -> Task:
        return cast(Task, self._fresh(Sort.TASK, name, lambda t: t.ctl == Ctl.DEAD))

    def fresh_group(self) -> Group:
        def free(g: Group) -> Cond:
            return ~self.exists_task(lambda t: t.group == g)

        return cast(Group, self._fresh(Sort.GROUP, "group", free))

    def fresh_mm(self, name: str) -> Mm:
        def free(m: Mm) -> Cond:
            return ~self.exists_task(lambda t: t.mm == m)

        return cast(Mm, self._fresh(Sort.MM, name, free))

    def fresh_addr(
        self,
        mm: Mm,
        name: str,
        size: Term | int = PAGE_SIZE,
        shadow: bool = False,
        low: Cond | bool = False,
    ) -> Addr:
        return cast(Addr, self._fresh(Sort.ADDR, name, lambda a: mm.at(a).kind == Kind.FREE))

    def no_room(self, mm: Mm, size: Term | int, low: Cond | bool) -> Cond:
        return self.may("alloc-failure", "ENOMEM")

    # -- bulk --------------------------------------------------------------------
    def copy_fields(self, src: Record, dst: Record) -> None:
        for f in fields(type(src)):
            self.write(dst, f, self.read(src, f))

    def reset(self, record: Record) -> None:
        for f in fields(type(record)):
            self.write(record, f, f.values[0])
