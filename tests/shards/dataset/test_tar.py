"""A shard is the file that `tarfile` and webdataset write from the same members."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from medvq.shards.dataset.tar import TarWriter, header

LONGEST = "3a3bf7577b78747b_" + "x" * 60 + "-22.mask.png"
MEMBERS = {"k.json": b"", "k.png": b"x" * 511, LONGEST: b"y" * 512, "k.npy": np.random.default_rng(0).bytes(20_000)}


def written(path: Path) -> bytes:
    with TarWriter(path) as tar:
        for name, data in MEMBERS.items():
            member = tar.add(name, data)
            assert member.length == len(data)
        size, sha256 = tar.close()
    content = path.read_bytes()
    assert (size, sha256) == (len(content), hashlib.sha256(content).hexdigest())
    return content


def test_the_bytes_are_those_of_tarfile(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert written(tmp_path / "a.tar") == out.getvalue()


@given(
    st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=100), st.integers(0, 8**11 - 1)
)
def test_a_header_is_that_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    assert header(name, size) == info.tobuf(tarfile.USTAR_FORMAT, encoding="ascii", errors="strict")


def test_the_bytes_are_those_of_webdataset_without_an_owner(tmp_path: Path) -> None:
    theirs = webdataset.TarWriter(str(tmp_path / "b.tar"), user="", group="", mode=0o644, mtime=0, encoder=False)
    for name, data in MEMBERS.items():
        key, _, ext = name.partition(".")
        theirs.write({"__key__": key, ext: data})
    theirs.close()
    ours, other = written(tmp_path / "a.tar"), (tmp_path / "b.tar").read_bytes()
    assert ours == other


def test_members_are_where_they_are_said_to_be(tmp_path: Path) -> None:
    with TarWriter(tmp_path / "a.tar") as tar:
        members = {name: tar.add(name, data) for name, data in MEMBERS.items()}
        tar.close()
    content = (tmp_path / "a.tar").read_bytes()
    for name, member in members.items():
        assert content[member.offset : member.offset + member.length] == MEMBERS[name]


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 0), ("", 0), ("x", 8**11)])
def test_what_ustar_cannot_hold_is_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="too long"):
        header(name, size)
