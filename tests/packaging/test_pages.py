"""What a newcomer reads is true: the map shows every room, links lead somewhere, versions agree."""

import re
import tomllib
from pathlib import Path

import pytest

import medvq
from medvq.config.as_published import switches
from medvq.config.settings import model_settings
from medvq.config.task_info import find_task
from medvq.registry import MODELS, TASKS

TOP = Path(__file__).resolve().parents[2]
FOLDERS = ("jobs", "medvq", "shards", "slurm", "tests")
PAGES = [*TOP.glob("*.md"), *(page for folder in FOLDERS for page in (TOP / folder).rglob("*.md"))]
PYPROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())


def test_the_map_shows_every_room_and_no_other():
    text = (TOP / "CONTRIBUTING.md").read_text()
    table = text.split("## The map")[1].split("\n## ")[0]
    shown = {name.rstrip("/") for row in table.splitlines() for name in re.findall(r"`([\w./]+)`", row.split(" | ")[0])}
    package = TOP / "medvq"
    rooms = {path.name for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert shown & rooms == rooms
    assert shown - rooms <= {"jobs", "shards", "slurm", "medvq", "tests"}, "names of the paragraph above the table"


def test_every_package_is_shipped():
    packages = {".".join(p.parent.relative_to(TOP).parts) for p in (TOP / "medvq").rglob("__init__.py")}
    shipped = {"medvq.shipped.jobs", "medvq.shipped.shards", "medvq.shipped.slurm"}
    assert packages | shipped == set(PYPROJECT["tool"]["setuptools"]["packages"])


def test_pages_name_this_version():
    versions = re.findall(r"^## ([\d.]+)$", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == medvq.__version__
    written = re.findall(r"medvq-(\d+\.\d+\.\d+)", "".join(page.read_text() for page in PAGES))
    assert set(written) <= {medvq.__version__}


def anchors(page):
    """Names of a page's headings, as links spell them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_mistake_that_can_be_switched_on_is_explained():
    known = {s for task in TASKS for model in MODELS for s in switches(find_task(task), model_settings(model))}
    text = (TOP / "jobs" / "PUBLISHED.md").read_text()
    assert [name for name in sorted(known) if f"`{name}`" not in text] == []


def test_nothing_refers_to_pages_outside_the_repository():
    outside = re.compile(r"SPEC ?§|[s]ee DESIGN|DESIGN[.]md|HOUSE[.]md")
    files = [*PAGES, *(p for f in FOLDERS for s in ("py", "yaml", "sh", "sbatch") for p in (TOP / f).rglob(f"*.{s}"))]
    found = [
        f"{path.relative_to(TOP)}: {line}"
        for path in files
        if path != Path(__file__)
        for line in path.read_text().splitlines()
        if outside.search(line)
    ]
    assert found == []
