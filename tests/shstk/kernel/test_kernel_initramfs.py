"""Archives in newc format."""

from __future__ import annotations

import stat

from shstk.kernel.initramfs import Entry, initramfs, newc


def unpacked(archive: bytes) -> dict[str, tuple[list[int], bytes]]:
    """Names to the thirteen fields of a header and the content, up to the trailer."""
    out = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701" and at % 4 == 0
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, length = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length]
        assert name.endswith(b"\0")
        at = (at + 110 + length + 3) // 4 * 4
        content = archive[at : at + size]
        at = (at + size + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            assert at == len(archive)
            return out
        out[name[:-1].decode()] = (fields, content)


def test_contents_come_back_whatever_their_length() -> None:
    """Names and contents of every length modulo 4 are read back as they were."""
    entries = [Entry("n" * n, stat.S_IFREG | 0o644, b"c" * m) for n in range(1, 6) for m in [n % 5]]
    read = unpacked(newc(entries))
    assert {name: content for name, (_, content) in read.items()} == {
        entry.name: entry.content for entry in entries
    }


def test_the_guest_is_init_and_has_a_console() -> None:
    """PID 1 is executable and its console is character device 5:1."""
    read = unpacked(initramfs(b"program", {"/scenarios": b"text"}))
    fields, content = read["init"]
    assert (fields[1], content) == (stat.S_IFREG | 0o755, b"program")
    fields, _ = read["dev/console"]
    assert stat.S_ISCHR(fields[1]) and fields[9:11] == [5, 1]
    assert read["scenarios"][1] == b"text"


def test_folders_come_before_what_is_in_them() -> None:
    """The kernel unpacks in order, so a folder precedes its files."""
    names = list(unpacked(initramfs(b"", {"a/b/c": b"x"})))
    assert names.index("a") < names.index("a/b") < names.index("a/b/c")
    assert {"dev", "proc", "sys", "tmp"} <= set(names)


def test_inode_numbers_differ() -> None:
    """No two entries are hard links of each other."""
    numbers = [fields[0] for fields, _ in unpacked(initramfs(b"", {"x": b"", "y": b""})).values()]
    assert len(set(numbers)) == len(numbers)


def test_equal_files_give_equal_bytes() -> None:
    """An archive depends on nothing but the contents, not on their order either."""
    one = initramfs(b"i", {"a": b"1", "b": b"2"})
    assert one == initramfs(b"i", {"b": b"2", "a": b"1"})
