import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cifar_resnet.errors import UserError
from cifar_resnet.tracking.store import Store, open_store, tracking_uri

fork = multiprocessing.get_context("fork")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my project"
    (folder / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(folder)
    for variable in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    return folder


def log_an_artifact(store: Store) -> str:
    run_id = str(store.client.create_run(store.experiment_id).info.run_id)
    store.client.log_text(run_id, "kept", "notes/note.txt")
    return run_id


def read_the_artifact(store: Store, run_id: str) -> str:
    return Path(store.client.download_artifacts(run_id, "notes/note.txt")).read_text()


def test_the_store_is_named_by_the_environment_then_by_dvc_then_by_the_project(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subfolder = project / "deep" / "below"
    subfolder.mkdir(parents=True)
    monkeypatch.chdir(subfolder)
    assert tracking_uri() == f"sqlite:///{project}/mlruns/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert tracking_uri() == f"sqlite:///{tmp_path}/main/mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri() == f"sqlite:///{tmp_path}/main/mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    assert tracking_uri() == f"sqlite:///{tmp_path}/main/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri() == "http://127.0.0.1:5000"


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "sqlite:///50%20.db"])
def test_an_address_that_mlflow_cannot_use_is_refused(uri: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI|%"):
        tracking_uri()


def open_at_once(start: Barrier) -> None:
    start.wait()
    log_an_artifact(open_store("race"))


def test_eight_processes_can_open_a_new_store_at_once(project: Path) -> None:
    start = fork.Barrier(8)
    processes = [fork.Process(target=open_at_once, args=(start,)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    store = open_store("race")
    assert len(store.client.search_runs([store.experiment_id])) == 8


def test_a_kill_while_the_store_is_made_leaves_none_or_a_whole_one(project: Path) -> None:
    for seconds in (0.2, 1.0):
        process = fork.Process(target=open_store, args=("killed",))
        process.start()
        time.sleep(seconds)
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    store = open_store("killed")
    assert read_the_artifact(store, log_an_artifact(store)) == "kept"


def write_values(uri: str, run_id: str, name: str) -> None:
    client = MlflowClient(uri)
    for step in range(200):
        client.log_metric(run_id, name, step / 7, step=step)


def test_four_processes_can_write_at_once_and_nothing_is_lost(project: Path) -> None:
    store = open_store("stress")
    run_id = store.client.create_run(store.experiment_id).info.run_id
    names = ["a", "b", "c", "d"]
    processes = [fork.Process(target=write_values, args=(store.uri, run_id, name)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4  # "database is locked" would have raised
    for name in names:
        history = store.client.get_metric_history(run_id, name)
        assert sorted((metric.step, metric.value) for metric in history) == [(step, step / 7) for step in range(200)]


@pytest.mark.parametrize("transfer", [shutil.move, shutil.copytree])
def test_artifacts_open_where_the_project_was_moved_or_copied_to(
    transfer: object, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = log_an_artifact(open_store("moving"))
    assert callable(transfer)
    moved = project.with_name("elsewhere é")
    transfer(project, moved)
    shutil.rmtree(project, ignore_errors=True)
    monkeypatch.chdir(moved)
    store = open_store("moving")
    assert store.moved_from == (project / "mlruns" / "artifacts").as_uri()
    assert read_the_artifact(store, run_id) == "kept"
    assert str(project) not in "".join(sqlite3.connect(moved / "mlruns" / "mlflow.db").iterdump()).replace("%20", " ")
    assert open_store("moving").moved_from is None


def test_a_database_that_cannot_be_opened_fails_at_once(project: Path) -> None:
    database = project / "mlruns" / "mlflow.db"
    database.mkdir(parents=True)
    started = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        open_store("broken")
    assert time.monotonic() - started < 5  # MLflow would try again for 100 s


def test_a_deleted_experiment_is_named_with_the_way_to_bring_it_back(project: Path) -> None:
    store = open_store("gone")
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(UserError, match=f"mlflow experiments restore -x {store.experiment_id}"):
        open_store("gone")
