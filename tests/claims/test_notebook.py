"""The notebook for teaching runs from its first cell to its last, and is committed without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support.project import PROJECT

TOUR = PROJECT / "notebooks" / "tour.ipynb"


@pytest.fixture(scope="module")
def tour() -> nbformat.NotebookNode:
    notebook: nbformat.NotebookNode = nbformat.read(TOUR, as_version=4)  # type: ignore[no-untyped-call]
    return notebook


def test_it_is_short_and_without_outputs(tour: nbformat.NotebookNode) -> None:
    assert len(tour.cells) <= 25
    assert not [cell for cell in tour.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)]


def test_every_cell_runs_and_shows_what_it_promises(
    tour: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    NotebookClient(tour, timeout=600, resources={"metadata": {"path": str(TOUR.parent)}}).execute()
    outputs = [output for cell in tour.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 7
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert "epoch 4: loss" in printed
    assert "difference" in printed.splitlines()[-2]
    assert not [output for output in outputs if output.output_type == "stream" and output.name == "stderr"]
