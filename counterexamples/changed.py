"""What changed from one state of a trace to the next, in words."""

from __future__ import annotations

from collections.abc import Iterator

from counterexamples.named import Names, live, size_text, used_mms
from counterexamples.trace import Fields, StateView
from model.state import LEFT, NULL, Ctl, Exit, Kind, Off

# Control states that the words of the steps leading there already say.
SAID = tuple(ctl for ctl in Ctl if ctl.name.startswith(("EXIT", "EXEC", "PRCTL")))
FEATURES = {
    "shstk": ("features", "SHSTK"),
    "wrss": ("features", "WRSS"),
    "locked_shstk": ("features_locked", "SHSTK"),
    "locked_wrss": ("features_locked", "WRSS"),
}
Line = tuple[str, str]  # whose, what


def changes(names: Names, before: StateView, after: StateView, actor: int) -> list[Line]:
    """Only what changed, in words; names of new objects are given already."""
    lines: list[Line] = []
    for slot in sorted(range(len(after["tasks"])), key=lambda slot: slot != actor):
        who, old, new = names.task(slot), before["tasks"][slot], after["tasks"][slot]
        if old["ctl"] is Ctl.DEAD and new["ctl"] is not Ctl.DEAD:
            lines.append((who, _created(names, before, after, slot, actor)))
        elif old["ctl"] is not Ctl.DEAD and new["ctl"] is Ctl.DEAD:
            lines.append((who, "is gone"))
        elif parts := list(_task_changes(names, old, new)):
            lines.append((who, ", ".join(parts)))
    lines += _group_changes(names, before, after)
    live = used_mms(after)
    for mm, (olds, news) in enumerate(zip(before["mms"], after["mms"], strict=True)):
        if mm not in live:
            if mm in used_mms(before):
                lines.append((names.mm(mm), "is gone, with all that was mapped in it"))
            continue
        for addr, (was, now) in enumerate(zip(olds, news, strict=True)):
            if parts := list(_mapping_changes(names, was, now)):
                lines.append((f"{names.addr(addr)} in {names.mm(mm)}", ", ".join(parts)))
    return lines


def _created(names: Names, before: StateView, after: StateView, slot: int, actor: int) -> str:
    """A new task: what it has, and what of that is its creator's."""
    task, creator = after["tasks"][slot], after["tasks"][actor]
    parts = [names.mm(task["mm"])]
    if task["mm"] not in used_mms(before):
        parts[0] += f" (new, a copy of {names.mm(creator['mm'])})"
    parts += [
        f"base {names.addr(task['base'])}",
        f"size {size_words(task)}",
        f"SSP {ssp_words(names, task)}",
    ]
    parts += [f"{where} {bit}" for name, (where, bit) in FEATURES.items() if task[name]]
    if task["group"] == creator["group"]:
        parts.append(f"in {names.task(actor)}'s thread group")
    kind = "a kernel worker is created" if task["worker"] else "is created"
    return f"{kind}: {', '.join(parts)}"


def _task_changes(names: Names, old: Fields, new: Fields) -> Iterator[str]:
    if old["mm"] != new["mm"]:
        yield f"mm {names.mm(old['mm'])} → {names.mm(new['mm'])}"
    if old["base"] != new["base"]:
        yield f"base {names.addr(old['base'])} → {names.addr(new['base'])}"
    if size_words(old) != size_words(new):
        yield f"size {size_words(old)} → {size_words(new)}"
    if (old["ssp"], old["off"]) != (new["ssp"], new["off"]):
        yield f"SSP {ssp_words(names, old)} → {ssp_words(names, new)}"
    for name, (where, bit) in FEATURES.items():
        if old[name] != new[name]:
            yield f"{where} {'+' if new[name] else '-'}{bit}"
    if old["vfork_done"] != new["vfork_done"]:
        yield f"vfork_done {_waiter(names, old)} → {_waiter(names, new)}"
    if not old["mm_switched"] and new["mm_switched"] and new["base"] is not NULL:
        yield f"base still names {names.addr(new['base'])}, recorded in {names.mm(old['mm'])}"
    if old["ctl"] is new["ctl"]:
        if new["ctl"] is Ctl.VFORK_WAIT and old["child"] != new["child"]:
            yield "is woken: its vfork child is done"
    elif new["ctl"] not in SAID and isinstance(new["ctl"], Ctl):
        yield f"now in {new['ctl'].value}"


def _waiter(names: Names, task: Fields) -> str:
    waiter = names.task(task["vfork_done"])
    return waiter if task["vfork_done"] is NULL else f"{waiter} waits"


def size_words(task: Fields) -> str:
    """What thread.shstk.size is, as far as a trace knows."""
    """Worlds that keep the whole size show it."""
    size = task["size"]
    if size in (0, 1):
        return "nonzero" if size else "0"
    return size_text(size) if isinstance(size, int) else str(size)


def ssp_words(names: Names, task: Fields) -> str:
    """Where SSP is."""
    if task["ssp"] is NULL:
        return "off"
    place = "at the top of" if task["off"] is Off.TOP else "inside"
    return f"{place} {names.addr(task['ssp'])}"


def _group_changes(names: Names, before: StateView, after: StateView) -> Iterator[Line]:
    for slot, (old, new) in enumerate(zip(before["groups"], after["groups"], strict=True)):
        members = [i for i in live(after) if after["tasks"][i]["group"] == slot]
        who = "+".join(names.task(i) for i in members)
        if members and old["exit"] is not new["exit"] and isinstance(new["exit"], Exit):
            yield who, f"SIGNAL_GROUP_EXIT by {new['exit'].value}: a fatal signal is pending"
        if len(members) > 1 and old["exec_task"] != new["exec_task"]:
            if new["exec_task"] is NULL:
                yield who, "group_exec_task → NULL"
            else:
                yield who, f"{names.task(new['exec_task'])} in de_thread() kills the others"


def _mapping_changes(names: Names, old: Fields, new: Fields) -> Iterator[str]:
    if old["kind"] is not new["kind"]:
        yield f"{mapped(names, old)} → {mapped(names, new)}"
    elif old["owner"] != new["owner"]:
        yield f"owner {_owner(names, old['owner'])} → {_owner(names, new['owner'])}"
    if old["sealed"] != new["sealed"] and new["kind"] is not Kind.FREE:
        yield "is sealed" if new["sealed"] else "is not sealed any more"
    if old["token"] != new["token"] and new["kind"] is not Kind.FREE:
        yield "has a restore token" if new["token"] else "its restore token is used up"


def mapped(names: Names, mapping: Fields) -> str:
    """What is mapped, and whose it is."""
    kind = mapping["kind"]
    words = str(kind.value) if isinstance(kind, Kind) else str(kind)
    if type(mapping["owner"]) is int:
        words += f" of {names.task(mapping['owner'])}"
    elif mapping["owner"] is LEFT and kind is not Kind.ORPHAN:
        words += " of a task that has left the mm"
    return words


def _owner(names: Names, owner: object) -> str:
    return "nobody (has left the mm)" if owner is LEFT else names.task(owner)
