"""`pipeline.sync` and `pipeline.runs` beside real DVC: clones, caches, lost stores, experiments."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from ruamel.yaml import YAML
from support.finished_pipeline import commit, defined_stages, ran, run, write_dvc_project, write_outputs
from support.project import PROJECT, TINY, MakeOnce, copy_project, enter

from image_classifier.project.definition import read_project
from image_classifier.project.hashing import text_md5
from image_classifier.project.params import load_params
from image_classifier.project.recipes import overlay
from image_classifier.system.errors import UserError
from image_classifier.system.files import write_text
from image_classifier.tracking.lookup import find_runs
from image_classifier.tracking.provenance import CHANGED, COMMIT, DIRTY, RECONSTRUCTED
from image_classifier.tracking.publication import FILES, publish
from image_classifier.tracking.runs import STATE
from pipeline import runs, sync


@pytest.fixture(scope="session")
def original(make_once: MakeOnce, empty_store: Path) -> Path:
    """A committed DVC project after `dvc repro`; only stage train has published."""

    def fill(folder: Path) -> None:
        for name in ("ready", "mlruns"):
            (folder / name).mkdir()
        shutil.copy(empty_store, folder / "mlruns")
        overlay(PROJECT / "params.yaml", TINY, folder / "params.yaml")
        write_outputs(folder / "ready", load_params(folder / "params.yaml"))
        write_dvc_project(folder)
        with pytest.MonkeyPatch.context() as patch:
            enter(folder, patch)
            run("dvc", "repro", cwd=folder)
        commit(folder, "Results")

    return make_once("original", fill)


@pytest.fixture
def project(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the original, as the working directory."""
    return copy_project(original, tmp_path / "project", monkeypatch)


def runs_in(project: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{project}/mlruns/mlflow.db")
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))


def printed_by_sync(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    sync.run(read_project())
    return capsys.readouterr().out


def test_sync_completes_the_run_that_the_stages_made(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = runs_in(project)
    assert "champion of cifar10-resnet is now version 1, 75.00%" in printed_by_sync(capsys)
    (completed,) = runs_in(project)
    assert completed.info.run_id == found.info.run_id
    assert "gradcam/index.html" in completed.data.tags[FILES]
    assert printed_by_sync(capsys) == f"nothing to do: MLflow run {completed.info.run_name} is complete\n"


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """The address of a server with the files of `folder`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_results_on_a_web_server_are_all_that_a_fresh_clone_needs(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remote, clone = tmp_path / "remote", tmp_path / "clone"
    run("dvc", "remote", "add", "--default", "storage", str(remote), cwd=project)
    commit(project, "Remote")
    run("dvc", "push", cwd=project)
    run("git", "clone", "--quiet", str(project), str(clone), cwd=tmp_path)
    monkeypatch.chdir(clone)
    assert "is missing: run `dvc pull`" in printed_by_sync(capsys)
    with web_server(remote) as address:
        run("dvc", "remote", "add", "--local", "--default", "published", address, cwd=clone)
        run("dvc", "pull", *(name for name, stage in defined_stages().items() if stage.published), cwd=clone)
    environment = {"PYTHONPATH": str(PROJECT), "PATH": os.environ["PATH"]}
    assert "files added: 17" in run(sys.executable, "-m", "pipeline.sync", cwd=clone, env=environment)
    monkeypatch.chdir(project)
    sync.run(read_project())
    (here,), (there,) = runs_in(project), runs_in(clone)
    assert here.data.metrics == there.data.metrics
    assert here.data.params == there.data.params
    assert here.data.tags[STATE] == there.data.tags[STATE]
    assert (RECONSTRUCTED in here.data.tags, RECONSTRUCTED in there.data.tags) == (False, True)
    recorded = run("git", "log", "-1", "--format=%H %ct", "--", "dvc.lock", cwd=clone).split()
    assert [there.data.tags[COMMIT], str(there.info.start_time // 1000)] == recorded


def test_sync_gives_the_run_again_after_a_restore_from_the_run_cache(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for lost in ("models", "reports"):
        shutil.rmtree(project / lost)
    (project / "dvc.lock").unlink()
    (published,) = runs_in(project)
    MlflowClient(f"sqlite:///{project}/mlruns/mlflow.db").delete_run(published.info.run_id)
    assert "is cached - skipping run" in run("dvc", "repro", cwd=project)
    assert runs_in(project) == []  # no stage ran
    assert "files added: 17" in printed_by_sync(capsys)
    assert len(runs_in(project)) == 1


def test_settings_that_no_stage_has_run_with_are_not_published(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sync.run(read_project())
    before = runs_in(project)
    overlay(project / "params.yaml", {"evaluate": {"calibration_bins": 7}}, project / "params.yaml")
    printed = printed_by_sync(capsys)
    assert "evaluate ran with evaluate.calibration_bins 15, params.yaml has 7: run `dvc repro`" in printed
    assert len(runs_in(project)) == len(before)


def test_a_commit_that_git_refused_is_added_once_git_answers(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Git refuses the repository of another user, as in a container or on a shared disk."""
    (published,) = runs_in(project)
    MlflowClient(f"sqlite:///{project}/mlruns/mlflow.db").delete_run(published.info.run_id)
    with monkeypatch.context() as patch:
        patch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        for completed in (ran(), None):
            publish(read_project(), completed)
            (warning,) = capsys.readouterr().err.splitlines()
            assert (
                "has no commit. Git ignores the folder of another user: `git config --global --add safe.dir" in warning
            )
            assert warning.endswith(f"{project}`; then `python -m pipeline.sync` adds it")
    (without,) = runs_in(project)
    assert COMMIT not in without.data.tags

    lock = (project / "dvc.lock").read_text()
    (project / "dvc.lock").write_text(f"{lock}# edited\n")
    sync.run(read_project())
    assert "has no commit. Commit dvc.lock; then `python -m pipeline.sync` adds it" in capsys.readouterr().err
    (project / "dvc.lock").write_text(lock)
    assert f"noted commit {commit_id('HEAD')[:8]}, which recorded dvc.lock" in printed_by_sync(capsys)
    (found,) = runs_in(project)
    assert found.info.run_id == without.info.run_id
    assert found.data.tags[COMMIT] == commit_id("HEAD")
    assert RECONSTRUCTED in found.data.tags
    assert "is complete" in printed_by_sync(capsys)


def test_the_commit_of_a_run_has_the_code_of_all_stages_that_it_shows(project: Path) -> None:
    """Commits and edits between two stages."""

    def noted() -> tuple[str, str]:
        publish(read_project(), ran("gradcam_report"))
        (found,) = runs_in(project)
        return found.data.tags[COMMIT], found.data.tags[DIRTY]

    assert noted() == (commit_id("HEAD~"), "false"), "the last commit has the results, but no other code"
    code = project / "src" / "report.py"
    code.parent.mkdir()
    code.write_text("A")
    commit(project, "Code of a later stage")
    with_code = commit_id("HEAD")
    assert noted() == (with_code, "false")
    code.write_text("B")
    assert noted() == (with_code, "true")
    commit(project, "Other code")
    assert noted() == (commit_id("HEAD"), "false")

    yaml = YAML()
    lock = yaml.load(project / "dvc.lock")
    lock["stages"]["train"]["deps"].append({"path": "src/report.py", "hash": "md5", "md5": text_md5("A"), "size": 1})
    yaml.dump(lock, project / "dvc.lock")
    assert noted() == (commit_id("HEAD"), "true"), "stage train ran with other code than the last stage"
    code.write_text("A")
    commit(project, "The first code again")
    assert noted() == (commit_id("HEAD"), "false")


@pytest.mark.parametrize(("new_code", "is_dirty"), [({}, "false"), ({"src/report.py": "A"}, "true")])
def test_a_reconstructed_run_says_whether_the_code_of_its_commit_made_its_results(
    project: Path, new_code: dict[str, str], is_dirty: str
) -> None:
    for found in runs_in(project):
        MlflowClient(f"sqlite:///{project}/mlruns/mlflow.db").delete_run(found.info.run_id)
    for path, text in new_code.items():
        write_text(project / path, text)
    publish(read_project())
    (found,) = runs_in(project)
    assert (found.data.tags[RECONSTRUCTED], found.data.tags[DIRTY]) == ("true", is_dirty)


def test_an_evaluation_of_other_weights_is_not_published(project: Path) -> None:
    sync.run(read_project())
    write_outputs(project / "ready", load_params(project / "params.yaml"), seed=5)
    run("dvc", "repro", "--force", "--single-item", "train", cwd=project)
    sync.run(read_project())
    newest = max(runs_in(project), key=lambda found: found.info.start_time)
    assert "epoch/train_loss" in newest.data.metrics
    assert "evaluate/accuracy" not in newest.data.metrics


def commit_id(revision: str) -> str:
    return subprocess.check_output(["git", "rev-parse", revision], text=True).strip()


def test_a_dvc_experiment_and_its_run_lead_to_each_other(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("dvc", "exp", "run", "--temp", "--name", "brave-fox", "-S", "train.seed=1", cwd=project)
    (found,) = [found for found in runs_in(project) if found.data.params["train.seed"] == "1"]
    assert found.data.tags["dvc_experiment"] == "brave-fox"
    assert found.data.tags["dvc_baseline"] == commit_id("HEAD")
    assert (found.data.tags[DIRTY], found.data.tags[CHANGED]) == ("false", "train.seed=1")

    capsys.readouterr()
    commit_of_dvc = run("git", "for-each-ref", "--format=%(objectname)", "refs/exps", cwd=project).split()[0]
    run("dvc", "exp", "apply", "brave-fox", cwd=project)  # DVC makes another reference for this
    for word in ("brave-fox", found.info.run_id, found.info.run_name, commit_of_dvc):
        runs.print_runs(word)
        printed = capsys.readouterr().out
        assert f"identifier    {found.info.run_id}\n" in printed
        assert "DVC experiment brave-fox on" in printed
        assert "recorded in   DVC experiment brave-fox" in printed


def test_a_commit_and_its_run_lead_to_each_other(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sync.run(read_project())
    (found,) = runs_in(project)
    runs.print_runs("HEAD")
    printed = capsys.readouterr().out
    assert found.info.run_id in printed
    assert f"recorded in   commit {commit_id('HEAD')[:7]} Results" in printed
    runs.print_table()
    assert f"{found.info.run_name}  FINISHED  75.00%" in capsys.readouterr().out
    (project / "dvc.lock").write_text("<<<<<<< HEAD\n")
    commit(project, "A merge conflict, committed")
    runs.print_runs(found.info.run_id)
    assert f"recorded in   commit {commit_id('HEAD~')[:7]} Results" in capsys.readouterr().out
    with pytest.raises(UserError, match="'nonsense' is not a run"):
        runs.print_runs("nonsense")


def test_a_commit_made_before_a_setting_existed_keeps_its_run(project: Path) -> None:
    now = read_project()
    before = {**now.settings, "gradcam": {"method": "layercam"}}  # the other settings did not exist yet
    older = replace(now, settings=before)
    published = publish(older, {name: older.inputs(name) for name in older.stages})
    YAML().dump(before, project / "params.yaml")
    commit(project, "An older version of the settings")
    overlay(PROJECT / "params.yaml", TINY, project / "params.yaml")
    assert [found.info.run_id for found in find_runs(now.params, "HEAD")] == [published.run_id]
