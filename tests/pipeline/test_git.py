"""Git and this project: the same bytes in every clone, no outputs in commits, the right commit in a run's tags."""

import shutil
import subprocess
from pathlib import Path

import pytest
from support.finished_pipeline import commit
from support.project import PROJECT

from image_classifier.project.definition import read_project
from image_classifier.tracking.provenance import COMMIT, DIRTY, code_tags, reconstruction_tags


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


def test_a_fresh_clone_has_the_folder_of_runs_with_a_page_alone() -> None:
    assert git("-C", str(PROJECT), "ls-files", "mlruns").split() == ["mlruns/README.md"]


def test_new_code_is_noted_although_a_user_hides_new_files(workspace: Path) -> None:
    git("config", "status.showUntrackedFiles", "no")
    assert code_tags(read_project())[DIRTY] == "false"
    (workspace / "src" / "image_classifier" / "new.py").touch()
    assert code_tags(read_project())[DIRTY] == "true"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="there is no `ssh-keygen` to sign a commit with")
def test_a_user_may_have_git_show_signatures(workspace: Path, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    (tmp_path / "signers").write_text(f"test@example.org {(tmp_path / 'key.pub').read_text()}", encoding="utf-8")
    settings = {
        "gpg.format": "ssh",
        "user.signingKey": f"{tmp_path}/key",
        "commit.gpgSign": "true",
        "gpg.ssh.allowedSignersFile": f"{tmp_path}/signers",
        "log.showSignature": "true",
    }
    for name, value in settings.items():
        git("config", name, value)
    (workspace / "dvc.lock").touch()
    commit(workspace, "Signed")
    assert "signature" in git("log", "-1", "--format=%H")
    assert reconstruction_tags()[0][COMMIT] == git("rev-parse", "HEAD").strip()


def test_the_commit_is_noted_even_if_its_settings_have_another_encoding(workspace: Path) -> None:
    params = (workspace / "params.yaml").read_bytes()
    (workspace / "params.yaml").write_bytes(params + b"# caf\xe9\n")
    commit(workspace, "Latin-1")
    (workspace / "params.yaml").write_bytes(params)
    assert code_tags(read_project())[COMMIT] == git("rev-parse", "HEAD").strip()
