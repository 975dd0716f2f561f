from __future__ import annotations

from pathlib import Path

import pytest

from medvq.config.recipe import Recipe, load_recipe, parse_size
from medvq.errors import ConfigError, NotFoundError

SHARDS = Path(__file__).resolve().parents[2] / "shards"


@pytest.mark.parametrize("path", sorted(SHARDS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_is_valid_and_says_where_its_data_are_from(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == {"quickstart": "smear"}.get(path.stem, path.stem)
    assert recipe.about
    assert recipe.licence
    assert recipe.source
    assert Recipe.model_validate(recipe.model_dump(mode="json", exclude_defaults=True)) == recipe
    assert path.read_text().startswith("# medvq ")


def test_all_problems_come_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: x\nclases: [a]\nsize: 0\nimages: '{clas}/{name}'\nsplits:\n  make: {test: 1.5}\n")
    with pytest.raises(ConfigError) as e:
        load_recipe(path)
    text = str(e.value)
    for part in ("r.yaml:2: clases", "did you mean classes?", "r.yaml:3: size", "r.yaml:4: images", "{clas} is no",
                 "r.yaml:6"):  # fmt: skip
        assert part in text, text


def test_a_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "size"), [("64", (64, 64)), ("240x256", (240, 256)), ("5×7", (5, 7)), ("8X9", (8, 9))]
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size
    assert Recipe.model_validate({"size": text}).size == size


@pytest.mark.parametrize("text", ["", "x", "0", "1x2x3", "-4", "99999", "3.5"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@pytest.mark.parametrize(
    "values",
    [
        {"splits": {"make": {"val": 0.5, "test": 0.5}}},
        {"splits": {"make": {"val": 0.5, "test": {"of": "val", "share": 0.5}}}},
        {"images": ["../{name}"]},
        {"images": ["/abs/{name}"]},
        {"group": "no bracket"},
        {"group": "(open"},
        {"tables": [{"file": "t.csv", "id": "x"}]},
        {"tables": [{"file": "t.csv", "id": "x", "label": "a", "one_hot": ["b"]}]},
        {"mask_values": {"1": 300}},
        {"background": [1, 2]},
        {"max_pixels": 0},
        {"window": [5, 5]},
        {"quality": 101},
    ],
)
def test_nonsense_is_refused(values: dict) -> None:
    with pytest.raises(ValueError):
        Recipe.model_validate(values)


def test_aliases_know_every_spelling() -> None:
    recipe = Recipe(classes={"neutrophil": ["Neurophil", "Neutrophils"], "basophil": []})
    assert recipe.class_names() == ["neutrophil", "basophil"]
    assert recipe.aliases() == {"neutrophil": "neutrophil", "Neurophil": "neutrophil", "Neutrophils": "neutrophil",
                                "basophil": "basophil"}  # fmt: skip
