"""Tar files as they come: every member is found where it lies, and damage is never taken for the end."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tars import shard

from medvq.shards.source.tar_index import LARGEST_HEADER, index_tar

MEMBERS = [("a.jpg", b"1" * 700), ("a.cls", b"1"), ("b.jpg", b"2" * 600), ("b.cls", b"0")]


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return shard(tmp_path / "whole.tar", MEMBERS).read_bytes()


def index_of(tmp_path: Path, data: bytes):
    (tmp_path / "x.tar").write_bytes(data)
    return index_tar(tmp_path / "x.tar")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_lie_where_the_index_says(tmp_path: Path, form: int) -> None:
    names = ["./x.jpg", "folder/" * 20 + "y.jpg", "血液.jpg" if form != tarfile.USTAR_FORMAT else "z.jpg"]
    path = shard(tmp_path / "x.tar", [(name, name.encode() * 99) for name in names], form=form)
    found = index_tar(path)
    assert (found.problem, found.last, found.odd) == (None, None, [])
    assert [m.name for m in found.members] == ["x.jpg", *names[1:]]
    data = path.read_bytes()
    assert [data[m.offset : m.offset + m.size] for m in found.members] == [name.encode() * 99 for name in names]


@pytest.mark.parametrize("cut", [100, 511, 512, 900, 1536, 1700, 2048, 2049, 2560, 3100, 4920, 5120, 5600])
def test_a_shard_that_is_cut_off_is_never_taken_for_whole(tmp_path: Path, whole: bytes, cut: int) -> None:
    found = index_of(tmp_path, whole[:cut])
    assert found.problem
    assert found.last == (None if cut < 512 else found.last)
    assert all(m.offset + m.size <= cut for m in found.members)
    if cut >= 512:
        later = [name for name, _ in MEMBERS[len(found.members) :]]
        assert found.last in (later[:1] + [m.name for m in found.members[-1:]])


def test_one_block_of_zeros_is_an_end(tmp_path: Path, whole: bytes) -> None:
    assert index_of(tmp_path, whole[:5120] + bytes(512)).problem is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d[:1536] + b"\xff" * 512 + d[2048:], "the header at byte 1,536 is damaged"),
        (lambda d: d[:1536] + bytes(512) + d[2048:], "data follow the end"),
        (lambda d: d + d, "data follow the end"),
        (lambda d: gzip.compress(d), "compressed with gzip"),
        (lambda d: b"<html>not found</html>" * 50, "not a tar file"),
        (lambda d: b"", "it is empty"),
    ],
    ids=["header", "zeroed", "concatenated", "gzip", "page", "empty"],
)
def test_damage_is_told(tmp_path: Path, whole: bytes, change, words: str) -> None:
    found = index_of(tmp_path, change(whole))
    assert words in str(found.problem)


def test_an_empty_tar_file_is_whole(tmp_path: Path) -> None:
    found = index_of(tmp_path, bytes(10240))
    assert (found.members, found.odd, found.problem) == ([], [], None)


def extended(kind: bytes, size: int) -> bytes:
    """A header of an extended header that claims `size` bytes."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("size", [LARGEST_HEADER + 1, 1 << 40])
def test_a_header_that_promises_more_than_there_is_costs_no_memory(
    tmp_path: Path, whole: bytes, kind: bytes, size: int
) -> None:
    found = index_of(tmp_path, whole[:1536] + extended(kind, size) + whole[1536:])
    assert "an extended header claims" in str(found.problem)
    assert [m.name for m in found.members] == ["a.jpg"]


def test_a_negative_size_does_not_loop(tmp_path: Path, whole: bytes) -> None:
    head = bytearray(whole[1536:2048])
    head[124:136] = b"\xff" * 8 + (-2048).to_bytes(4, "big", signed=True)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    found = index_of(tmp_path, whole[:1536] + bytes(head) + whole[2048:])
    assert found.problem
    assert [m.name for m in found.members] == ["a.jpg"]


def test_links_devices_and_names_that_lead_out_are_odd(tmp_path: Path) -> None:
    def special(kind: bytes) -> tarfile.TarInfo:
        info = tarfile.TarInfo()
        info.type, info.linkname = kind, "/etc/passwd"
        return info

    names = {
        "link.jpg": special(tarfile.SYMTYPE), "hard.jpg": special(tarfile.LNKTYPE),
        "pipe.jpg": special(tarfile.FIFOTYPE), "/etc/x.jpg": b"1",
        "../x.jpg": b"1", "a/../../x.jpg": b"1", "n" * 2000 + ".jpg": b"1", "\udcff.jpg": b"1",
        "good.jpg": b"1", "folder": special(tarfile.DIRTYPE),
    }  # fmt: skip
    found = index_tar(shard(tmp_path / "x.tar", names.items(), form=tarfile.GNU_FORMAT))
    assert found.problem is None
    assert [m.name for m in found.members] == ["good.jpg"]
    assert [reason.split(",")[0] for _, reason in found.odd] == [
        "a link", "a link", "not a regular file", *["its name leads out of the shard"] * 3,
        "its name has more than 1", "the name is not UTF-8",
    ]  # fmt: skip


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_raises_and_none_before_the_end_is_silent(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    raw = bytearray(whole)
    at = data.draw(st.integers(0, 5 * 1024 - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    found = index_of(tmp_path, bytes(raw))
    in_header = at // 512 in (0, 3, 5, 8)
    same = [(m.offset, m.size) for m in found.members] == [(512, 700), (2048, 1), (3072, 600), (4608, 1)]
    assert same or found.problem or found.odd
    assert in_header or (same and not found.problem)
