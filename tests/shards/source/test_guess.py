"""Tables that no recipe names: what is guessed has evidence, and what is contradicted is asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from trees import picture, put

from medvq.config.recipe import Recipe
from medvq.errors import DataError, UsageError
from medvq.shards.source.resolve import read_source


def source(root: Path, paths: list[str], **tables: str | bytes) -> Path:
    for i, path in enumerate(paths):
        picture(root / path, i)
    for name, text in tables.items():
        put(root / name.replace("_", "."), text)
    return root


def recipes_in(text: str) -> list[dict]:
    """The recipes that a hint proposes: lines such as `key: value`, further lines with `# too`."""
    found: list[str] = []
    for line in text.splitlines():
        if re.match(r"\s+(tables|images|masks|ignore|classes|links): ", line):
            found = [*found[:-1], found[-1] + "\n" + line.strip()] if line.endswith("# too") else [*found, line.strip()]
    return [yaml.safe_load(f) for f in found]


def labels(root: Path, recipe: dict | None = None) -> dict[str, str | None]:
    arranged = read_source(root, Recipe.model_validate(recipe or {})).arranged
    assert not arranged.bad
    return {s.path: s.label for s in arranged.samples}


FLAT = [f"images/{i}.png" for i in range(6)]
INDEX = ",image,label\n0,5.png,b\n1,4.png,b\n2,3.png,b\n3,2.png,a\n4,1.png,a\n5,0.png,a\n"
REVERSED = {f"images/{i}.png": "aaabbb"[i] for i in range(6)}
FOLDERS = [f"{c}/{c}{i}.png" for c in "ab" for i in range(3)]


@pytest.mark.parametrize(
    ("paths", "table", "words", "readings"),
    [
        (FLAT, INDEX, "2 columns name the images", [REVERSED, dict(zip(FLAT, "bbbaaa", strict=True))]),
        (
            FLAT,
            "image,label,diagnosis\n" + "".join(f"{i},{'aaabbb'[i]},{'xyxyxy'[i]}\n" for i in range(6)),
            "2 columns may hold the labels",
            [dict(zip(FLAT, "aaabbb", strict=True)), dict(zip(FLAT, "xyxyxy", strict=True))],
        ),
        (
            FLAT,
            "image,label,label\n" + "".join(f"{i},{'aaabbb'[i]},{'xyxyxy'[i]}\n" for i in range(6)),
            "2 columns may hold the labels",
            [dict(zip(FLAT, "aaabbb", strict=True)), dict(zip(FLAT, "xyxyxy", strict=True))],
        ),
        (
            FOLDERS,
            "image,label\n" + "".join(f"{c}{i},{'ba'[i % 2]}\n" for c in "ab" for i in range(3)),
            "the folders disagree about the class",
            [{p: p[0] for p in FOLDERS}, {f"{c}/{c}{i}.png": "ba"[i % 2] for c in "ab" for i in range(3)}],
        ),
        (
            FOLDERS,
            "image,label\n" + "".join(f"{c}{i},{'b' if c == 'a' else 'a'}\n" for c in "ab" for i in range(3)),
            "the folders disagree about the class",
            [{p: p[0] for p in FOLDERS}, {p: "ba"[p[0] == "b"] for p in FOLDERS}],
        ),
    ],
    ids=["index", "labels", "twice", "folders", "swapped"],
)
def test_a_guess_that_is_contradicted_is_asked(
    tmp_path: Path, paths: list[str], table: str, words: str, readings: list[dict[str, str]]
) -> None:
    source(tmp_path, paths, labels_csv=table)
    with pytest.raises(UsageError, match=words) as e:
        read_source(tmp_path)
    proposed = [labels(tmp_path, recipe) for recipe in recipes_in(str(e.value))]
    assert sorted(proposed, key=str) == sorted(readings, key=str), "each line, followed literally, gives its reading"


def test_two_tables_that_disagree_are_asked(tmp_path: Path) -> None:
    rows = "image,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(6))
    source(tmp_path, FLAT, a_csv=rows, b_csv=rows.replace("0,a", "0,b"))
    with pytest.raises(UsageError, match="disagree about the label") as e:
        read_source(tmp_path)
    assert [labels(tmp_path, r)["images/0.png"] for r in recipes_in(str(e.value))] == ["a", "b"]


@pytest.mark.parametrize(
    "table",
    [
        ",image,label\n" + "".join(f"{i},{i}.png,{'aaabbb'[i]}\n" for i in range(6)),
        "sep=;\nimage;label\n" + "".join(f"{i};{'aaabbb'[i]}\n" for i in range(6)),
        "image,label,class\n" + "".join(f"{i},{'aaabbb'[i]},{'000111'[i]}\n" for i in range(6)),
        "image,label,label\n" + "".join(f"{i},{'aaabbb'[i]},{'aaabbb'[i]}\n" for i in range(6)),
    ],
)
def test_columns_that_agree_are_used_and_the_evidence_is_kept(tmp_path: Path, table: str) -> None:
    source(tmp_path, FLAT, labels_csv=table)
    assert labels(tmp_path) == REVERSED
    found = read_source(tmp_path).arranged
    (guess,) = [g for g in found.guesses if g.what == "table"]
    assert "names 6 images" in guess.evidence
    assert labels(tmp_path, yaml.safe_load(guess.choice)) == REVERSED
    assert len(found.notes) == 1


def test_the_group_is_the_column_that_keeps_the_others_together(tmp_path: Path) -> None:
    rows = [f"{i},{'ab'[i % 2]},{i // 2},P{i // 4}\n" for i in range(6)]
    source(tmp_path, FLAT, t_csv="image,label,lesion_id,slide\n" + "".join(rows))
    assert {s.group for s in read_source(tmp_path).arranged.samples} == {"P0", "P1"}
    put(tmp_path / "t.csv", "image,label,patient,slide\n" + "".join(f"{i},a,{i // 2},{i % 3}\n" for i in range(6)))
    with pytest.raises(UsageError, match="2 columns may hold the groups") as e:
        read_source(tmp_path)
    assert [r["tables"][0]["group"] for r in recipes_in(str(e.value))] == ["patient", "slide"]


@pytest.mark.parametrize(
    ("suffix", "rows", "key"),
    [
        ("csv", "{:03d}.jpg", "match: stem"),
        ("csv", "{}", "format:"),
        ("csv", "C:\\data\\images\\{:03d}.png", "match: path"),
        ("txt", "{:03d}.jpg", "match: stem"),
    ],
)
def test_why_names_do_not_fit_is_told_with_a_line_that_works(tmp_path: Path, suffix: str, rows: str, key: str) -> None:
    paths = [f"images/{i:03d}.png" for i in range(1, 21)]
    source(tmp_path, paths)
    text = "image,label\n" + "".join(rows.format(i) + f",{'ab'[i % 2]}\n" for i in range(1, 21))
    put(tmp_path / f"labels.{suffix}", text)
    (note,) = read_source(tmp_path).arranged.notes
    line = re.search(r"`(tables: .*)`", note)
    assert line, note
    assert key in line[1]
    assert labels(tmp_path, yaml.safe_load(line[1])) == {p: "ab"[int(p[-6:-4]) % 2] for p in paths}


@pytest.mark.parametrize("suffix", ["tab", "txt", "TSV"])
def test_tables_of_every_suffix_are_seen(tmp_path: Path, suffix: str) -> None:
    source(tmp_path, FLAT)
    put(tmp_path / f"t.{suffix}", "image\tlabel\n" + "".join(f"{i}\t{'aaabbb'[i]}\n" for i in range(6)))
    assert labels(tmp_path) == REVERSED


@pytest.mark.parametrize(
    ("codec", "word", "asked"),
    [
        ("utf-16-le", "Норма", False),
        ("utf-16-be", "正常", False),
        ("cp1251", "Норма", True),
        ("gb18030", "正常组织", True),
        ("cp1252", "größer – café", False),
    ],
)
def test_an_encoding_is_proved_or_asked(tmp_path: Path, codec: str, word: str, asked: bool) -> None:
    table = ("image,label\n" + "".join(f"{i},{word if i % 2 else 'b'}\n" for i in range(6))).encode(codec)
    source(tmp_path, FLAT, t_csv=table)
    right = {f"images/{i}.png": word if i % 2 else "b" for i in range(6)}
    if not asked:
        assert labels(tmp_path) == right
        return
    with pytest.raises(UsageError, match="encoding of the table is unknown") as e:
        read_source(tmp_path)
    assert right in [labels(tmp_path, r) for r in recipes_in(str(e.value))]
    with pytest.raises(DataError, match="is not utf-8"):
        labels(tmp_path, {"tables": [{"file": "t.csv", "id": "image", "label": "label", "encoding": "utf-8"}]})


def test_a_recipe_that_names_one_of_two_columns_or_no_table_is_told_the_names(tmp_path: Path) -> None:
    source(tmp_path, FLAT, t_csv="image,label,label\n" + "".join(f"{i},a,{i % 2}\n" for i in range(6)))
    table = {"file": "t.csv", "id": "image", "label": "label"}
    with pytest.raises(UsageError, match="2 columns 'label' with different values") as e:
        labels(tmp_path, {"tables": [table]})
    named = yaml.safe_load(str(e.value.hint).rpartition(" or ")[2])
    assert set(labels(tmp_path, {"tables": [{**table, "label": named}]}).values()) == {"0", "1"}
    with pytest.raises(Exception, match="no such table") as e:
        labels(tmp_path, {"tables": [{**table, "file": "u.csv"}]})
    assert "t.csv" in str(e.value.hint)
