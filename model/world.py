"""What the kernel and design text may ask of the world it runs in.

The text is ordinary Python: ``if``, early ``return``, assignment, calls, and the
primitives below.  A world decides what a value is: a number, a decision to be
split, a solver's term.  The text must therefore not loop over tasks or choices,
test identity or type, catch exceptions, or keep state of its own: ``shstk.text``
refuses it otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from model.state import NULL

if TYPE_CHECKING:
    from model.designs import Design
    from model.events import Event
    from model.state import Addr, Field, Group, Mm, Record, Special, Task

U64 = 1 << 64
PAGE_SIZE = 1 << 12


class Cond:
    """A condition: ``if`` on it forks, ``& | ~`` combine without forking."""

    def __bool__(self) -> bool:
        raise NotImplementedError

    def __and__(self, other: Cond | bool) -> Cond:
        raise NotImplementedError

    def __or__(self, other: Cond | bool) -> Cond:
        raise NotImplementedError

    def __rand__(self, other: bool) -> Cond:
        return self & other

    def __ror__(self, other: bool) -> Cond:
        return self | other

    def __invert__(self) -> Cond:
        raise NotImplementedError


class Term:
    """A value: unsigned 64-bit number, member of an enumeration, or reference."""

    def __eq__(self, other: object) -> Cond:  # type: ignore[override]
        raise NotImplementedError

    def __ne__(self, other: object) -> Cond:  # type: ignore[override]
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: Term | int) -> Cond:
        raise NotImplementedError

    def __le__(self, other: Term | int) -> Cond:
        raise NotImplementedError

    def __gt__(self, other: Term | int) -> Cond:
        return ~(self <= other)

    def __ge__(self, other: Term | int) -> Cond:
        return ~(self < other)

    def __add__(self, other: Term | int) -> Term:
        raise NotImplementedError

    def __and__(self, other: Term | int) -> Term:
        raise NotImplementedError

    def __floordiv__(self, other: int) -> Term:
        raise NotImplementedError

    def __mod__(self, other: int) -> Term:
        raise NotImplementedError

    def __bool__(self) -> bool:
        raise TypeError("compare a term with a constant; its truth value is not defined")

    def isin(self, values: Sequence[object]) -> Cond:
        """True where the term is one of the given constants."""
        raise NotImplementedError


class World(Protocol):
    """The primitives.  ``current`` is the task whose step is being executed."""

    design: Design

    @property
    def current(self) -> Task: ...

    # -- state ---------------------------------------------------------------
    def read(self, record: Record, field: Field[Any]) -> object: ...

    def write(self, record: Record, field: Field[Any], value: object) -> None: ...

    def exists_task(self, predicate: Callable[[Task], Cond]) -> Cond:
        """Some task satisfies ``predicate`` (written with ``& | ~``, no ``if``)."""

    def exists_addr(self, predicate: Callable[[Addr], Cond]) -> Cond:
        """Some address satisfies ``predicate``."""

    def exists_mm(self, predicate: Callable[[Mm], Cond]) -> Cond:
        """Some mm satisfies ``predicate``."""

    # -- arbitrary choices ---------------------------------------------------
    def require(self, condition: Cond | bool) -> None:
        """The step can happen only where ``condition`` holds."""

    def choose(self, name: str, values: Sequence[object]) -> Term:
        """An arbitrary one of ``values``, shown in traces as ``name``."""

    def number(self, name: str, samples: Sequence[int]) -> Term:
        """An arbitrary unsigned 64-bit number; worlds that enumerate take ``samples``."""

    def may(self, family: str, name: str = "") -> Cond:
        """An arbitrary yes or no; always no when the event family is switched off."""

    def any_addr(self, name: str) -> Addr:
        """An arbitrary address."""

    def some_task(self, predicate: Callable[[Task], Cond]) -> Task:
        """An arbitrary task that satisfies ``predicate``; the step needs one."""

    # -- fresh objects: which one is an arbitrary choice -----------------------
    def fresh_task(self, name: str) -> Task:
        """A dead task slot.  Where the bound has none left the step saturates."""

    def fresh_group(self) -> Group:
        """A thread group without members."""

    def fresh_mm(self, name: str) -> Mm:
        """An mm without users; it is empty."""

    def fresh_addr(
        self,
        mm: Mm,
        name: str,
        size: Term | int = PAGE_SIZE,
        shadow: bool = False,
        low: Cond | bool = False,
    ) -> Addr:
        """An address at which nothing is mapped in ``mm``, with room for ``size`` bytes.

        ``shadow``: for a shadow stack, which has guard gaps; ``low``: below 4 GiB.  Worlds
        whose addresses are identities need to know neither.
        """

    def no_room(self, mm: Mm, size: Term | int, low: Cond | bool) -> Cond:
        """Mapping a shadow stack of ``size`` bytes in ``mm`` gives -ENOMEM.

        Arbitrary where addresses are identities; where they are numbers, a matter of the
        address space (and of whoever wants to see the failure).
        """

    # -- bulk ------------------------------------------------------------------
    def copy_fields(self, src: Record, dst: Record) -> None:
        """dst = src, every field."""

    def reset(self, record: Record) -> None:
        """Every field back to its initial value."""

    def copy_mappings(
        self,
        src: Mm,
        dst: Mm,
        own: Sequence[Addr],
        owner: Task,
        own_kind: dict[Any, Any],
        other_kind: dict[Any, Any],
    ) -> None:
        """dst's mappings become copies of src's: kinds translated by ``own_kind`` at the
        addresses in ``own`` (which then belong to ``owner``) and by ``other_kind``
        elsewhere (owner LEFT); kinds a table does not name are kept, without an owner."""

    def clear_mappings(self, mm: Mm) -> None:
        """Unmap everything in ``mm``."""

    def replace_owner(self, mm: Mm, old: Task, new: Special) -> None:
        """In ``mm``, every mapping owned by ``old`` is owned by ``new``."""

    # -- what properties see -----------------------------------------------------
    def emit(self, event: Event) -> None:
        """Record that something a property may speak about happened, here in the step."""


KindTable = dict[Any, Any]  # of copy_mappings


def copied_kind(table: KindTable, kind: Any) -> Any:
    """What copy_mappings makes of a mapping of this kind."""
    return table.get(kind, kind)


def copied_owner(table: KindTable, heir: Any, kind: Any) -> Any:
    """Whose the copy of a mapping of this kind is; ``heir`` is the owner where it has one."""
    return heir if kind in table else NULL
