"""Tar shards that are damaged, hostile or incomplete: every member is accounted for, and nothing bad enters."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from tars import sample, samples, shard
from trees import by_path, course, encode, pixels, put

from medvq.config.recipe import Recipe
from medvq.errors import DataError, NotFoundError, UsageError
from medvq.shards.dataset.manifest import read_manifest
from medvq.shards.pack.pack import BadSamplesError, pack
from medvq.shards.source.resolve import read_source


def arranged(path: Path, recipe: Recipe | None = None):
    return read_source(path, recipe).arranged


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: (d / "train-000001.tar").unlink(), "names this shard, and it is missing"),
        (lambda d: shutil.copy(d / "train-000001.tar", d / "train-000009.tar"), "knows no such shard"),
        (lambda d: os.truncate(d / "train-000001.tar", 4096), "4,096 bytes, and"),
    ],
)  # fmt: skip
def test_our_own_dataset_is_packed_whole_or_not_at_all(tmp_path: Path, change, words: str) -> None:
    pack(course(tmp_path / "wbc", {"train": {"a": 9, "b": 9}}), tmp_path / "one", Recipe(shard_samples=6), processes=1)
    change(tmp_path / "one")
    with pytest.raises(BadSamplesError, match=words) as e:
        pack(tmp_path / "one", tmp_path / "two", processes=1)
    assert e.value.code == 5
    damaged = tmp_path / "one" / "manifest.json"
    damaged.write_text(damaged.read_text().replace('"name": "wbc"', '"name": "wcb"'))
    with pytest.raises(DataError, match="manifest is damaged"):
        pack(tmp_path / "one", tmp_path / "two", processes=1)


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ("train-{000000..000002}.tar", NotFoundError, "no such shard"),
        ("test-*.tar", NotFoundError, "no such shard"),
        ("train-{000000.tar", UsageError, "braces of the glob"),
        ("gone.tar", NotFoundError, "no such source"),
        ("*.png", NotFoundError, "no such source"),
    ],
)
def test_a_glob_that_finds_too_little(shards: Path, asked: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        read_source(shards / asked)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("classes.txt", "a\na\n", "lists no class, or one twice"),
        ("classes.json", '{"a": 1}', "must be 0, 1, 2"),
        ("classes.json", '{"a": "b"}', "cannot be read"),
        ("classes.json", "[1]", "give a list"),
        ("classes.json", "[", "cannot be read"),
    ],
)
def test_a_file_of_class_names_that_is_none(tmp_path: Path, name: str, text: str, words: str) -> None:
    shard(tmp_path / "s" / "x.tar", samples(4))
    put(tmp_path / "s" / name, text)
    with pytest.raises(DataError, match=words):
        read_source(tmp_path / "s")


def test_a_hostile_shard(tmp_path: Path) -> None:
    """Every member of it is accounted for, and only the good sample enters."""
    link = tarfile.TarInfo()
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    good = encode(pixels(1))
    bad = {
        "link.png": (link, "a link"),
        "/abs.png": (good, "its name leads out of the shard"),
        "../up.png": (good, "its name leads out of the shard"),
        "two.png": (good, "its key has several images: two.png, two.jpg"),
        "two.jpg": (encode(pixels(2), "JPEG"), "its key has several images: two.png, two.jpg"),
        "masks.png": (good, "its key has several masks: masks.mask.png, masks.seg.png"),
        "json.png": (good, "its JSON is damaged"),
        "deep.png": (good, "its JSON is damaged"),
        "binary.png": (good, "its cls is not text"),
        "cut.jpg": (encode(pixels(3), "JPEG")[:-30], ""),
        "empty.jpg": (b"", "the file is empty"),
        "page.jpg": (b"<html>not found</html>", "web page"),
    }
    aside = [
        ("masks.mask.png", good), ("masks.seg.png", good), ("json.json", "{"), ("deep.json", "[" * 100_000),
        ("binary.cls", b"\xff"),
    ]  # fmt: skip
    ignored = {
        "readme": "no suffix", ".hidden.png": "hidden", "a/._b.png": "hidden", "pipe.txt": "not a regular file",
        "__MACOSX/x.png": "left by a file manager", "__meta__.png": "metadata of the shard",
        "scan.dcm": "its sample has no image", "lone.cls": "its sample has no image",
        "lone2.mask.png": "a mask without an image",
    }  # fmt: skip
    pipe = tarfile.TarInfo()
    pipe.type = tarfile.FIFOTYPE
    rest = [(name, pipe if name == "pipe.txt" else good) for name in ignored]
    shard(tmp_path / "x.tar", [*((n, d) for n, (d, _) in bad.items()), *aside, *rest, *sample("good", 99)])
    with pytest.raises(BadSamplesError) as e:
        pack(tmp_path / "x.tar", tmp_path / "out", processes=1)
    reasons = {b.path.removeprefix("x.tar/"): b.reason for b in e.value.bad}
    assert sorted(reasons) == sorted(bad)
    assert all(words in reasons[name] for name, (_, words) in bad.items())
    report = pack(tmp_path / "x.tar", tmp_path / "out", processes=2, on_bad="skip")
    assert (report.seen, report.written, report.ignored) == (1 + len(bad) + len(ignored), 1, len(ignored))
    assert len(report.skipped) == len(bad)
    told = {row["path"].removeprefix("x.tar/"): row["reason"] for row in read_manifest(tmp_path / "out").ignored}
    assert all(words in told[name] for name, words in ignored.items())
    assert list(by_path(tmp_path / "out")) == ["x.tar/good.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "x.tar"], "nothing was written elsewhere"


def test_two_members_of_one_name_are_bad(tmp_path: Path) -> None:
    rows = [*sample("a", 1, cls="0"), *sample("b", 2, cls="1"), *sample("a", 3, cls="1"), *sample("c", 4, cls="1")]
    found = arranged(shard(tmp_path / "x.tar", rows))
    assert [(b.path, b.reason) for b in found.bad] == [
        ("x.tar/a.jpg", "several members of the shard are called a.jpg")
    ] * 2
    twice = [*sample("a", 1, cls="0"), ("a.cls", "1"), *sample("c", 4, cls="1")]
    assert [b.reason for b in arranged(shard(tmp_path / "y.tar", twice)).bad] == [
        "several members of the shard are called a.cls"
    ]
    with_patterns = arranged(tmp_path / "x.tar", Recipe(images=["{*}/{name}"]))
    assert len(with_patterns.bad) == 2


def test_one_key_in_two_shards_is_two_samples(tmp_path: Path) -> None:
    for i in range(2):
        shard(tmp_path / "s" / f"{i}.tar", sample("a", i, cls=str(i)))
    report = pack(tmp_path / "s", tmp_path / "out", processes=1)
    assert report.written == 2
    assert sorted(by_path(tmp_path / "out")) == ["0.tar/a.jpg", "1.tar/a.jpg"]


@pytest.mark.parametrize("kind", ["cut", "between", "header", "text", "gzip"])
def test_a_damaged_shard_is_an_error_or_recorded(tmp_path: Path, kind: str) -> None:
    whole = shard(tmp_path / "s" / "b.tar", samples(20)).read_bytes()
    shard(tmp_path / "s" / "a.tar", samples(5, first=100))
    with tarfile.open(tmp_path / "s" / "b.tar") as tar:
        tenth = tar.getmember("s0010.cls").offset
    changed = {
        "cut": whole[: tenth - 700], "between": whole[:tenth], "text": b"<html>", "gzip": gzip.compress(whole),
        "header": whole[:tenth] + b"?" * 512 + whole[tenth + 512 :],
    }[kind]  # fmt: skip
    put(tmp_path / "s" / "b.tar", changed)
    with pytest.raises(BadSamplesError, match=r"b\.tar: it is|b\.tar: the header") as e:
        pack(tmp_path / "s", tmp_path / "out", processes=1)
    assert e.value.code == 5
    report = pack(tmp_path / "s", tmp_path / "out", processes=1, on_bad="skip")
    assert report.seen == report.written + len(report.skipped) + report.ignored
    assert report.written == {"text": 5, "gzip": 5}.get(kind, 15)
    last = {"cut": [], "between": ["b.tar/s0010.jpg"], "header": ["b.tar/s0010.jpg"]}.get(kind, [])
    assert [row["path"] for row in report.skipped] == ["b.tar", *last]
    if last:
        assert "may lack members" in report.skipped[1]["reason"]


def test_compressed_shards_are_refused_with_what_to_do(tmp_path: Path) -> None:
    shard(tmp_path / "s" / "a.tar", samples(2))
    (tmp_path / "s" / "a.tar").rename(tmp_path / "s" / "a.tar.gz")
    for path in (tmp_path / "s", tmp_path / "s" / "a.tar.gz"):
        with pytest.raises(UsageError, match=r"compressed, such as a\.tar\.gz") as e:
            read_source(path)
        assert "unpack" in str(e.value.hint)


def test_a_shard_that_changes_while_it_is_read_is_told(shards: Path, tmp_path: Path) -> None:
    found = read_source(shards)
    entry = found.arranged.samples[0]
    assert found.source.read(entry.path, entry.size)
    found.source.close()
    shard(shards / entry.path.split("/")[0], samples(3, first=500))
    assert found.source.identify(entry.path) == "its shard changed while it was read"
