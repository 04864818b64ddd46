"""The table in docs/architecture.md: which stages run again after an edit. Each edit is made for real."""

import re
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML
from support.project import PROJECT

from image_classifier.project import locations

TABLE = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (an? .*|the .*) \| (.*) \|$", TABLE, flags=re.MULTILINE)


def make_edit(edit: str) -> None:
    """Add a setting to a section of params.yaml, or a line to a file, as the row says."""
    (name,) = re.findall(r"`(.*?)`", edit)
    if edit.startswith("a new setting"):
        settings = YAML().load(locations.PARAMS)
        settings[name]["new"] = 1
        YAML().dump(settings, locations.PARAMS)
    else:
        with Path(name).open("a", encoding="utf-8") as file:
            file.write("\n# edited\n")


def test_the_table_has_rows() -> None:
    assert len(ROWS) >= 18


@pytest.mark.parametrize(("edit", "stages"), ROWS, ids=[edit for edit, _ in ROWS])
@pytest.mark.usefixtures("finished")
def test_an_edit_runs_these_stages_again(edit: str, stages: str) -> None:
    make_edit(edit)
    with Repo() as repo:
        assert set(repo.status()) == ({*stages.split(", ")} - {"none"})
