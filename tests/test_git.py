"""What Git takes up, and gives back: the same bytes in every clone, and nothing that the pipeline made."""

import shutil
import subprocess
from pathlib import Path

import pytest


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def test_a_clone_that_asks_for_windows_line_ends_has_the_same_bytes(workspace: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git("clone", "--quiet", "-c", "core.autocrlf=true", str(workspace), str(clone))
    for name in git("ls-files").splitlines():
        assert (clone / name).read_bytes() == (workspace / name).read_bytes(), name


@pytest.mark.parametrize("name", ["mlruns", "data", "models", "checkpoints"])
@pytest.mark.parametrize("linked", [False, True], ids=["folder", "link"])
def test_nothing_the_pipeline_made_is_committed(workspace: Path, tmp_path: Path, name: str, linked: bool) -> None:
    if name == "mlruns":
        shutil.rmtree(workspace / name)  # what a user deletes to start afresh
    if linked:
        (tmp_path.parent / "big").mkdir(exist_ok=True)
        (workspace / name).symlink_to(tmp_path.parent / "big")
    else:
        (workspace / name).mkdir()
    (workspace / name / "file").write_text("made by the pipeline")
    git("add", "--all")
    assert git("status", "--porcelain") == ""
