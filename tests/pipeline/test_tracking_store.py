import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import time
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.cli import gc

from image_classifier.project.store_location import follow_move, tracking_uri
from image_classifier.system.errors import UserError, masked
from image_classifier.tracking.store import Store, open_store, store_errors
from pipeline.stage import main

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


@pytest.mark.parametrize(
    "uri",
    [
        "mlruns",
        "file:///tmp/mlruns",
        "sqlite:///50%20.db",
        "sqlite:///:memory:",
        "sqlite:///",
        "sqlite:///~/runs.db",
        "http://[::1",
        "http://host:port",
    ],
)
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
    processes = [fork.Process(target=write_values, args=(tracking_uri(), run_id, name)) for name in names]
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
    assert follow_move() == (project / "mlruns" / "artifacts").as_uri()
    assert read_the_artifact(open_store("moving"), run_id) == "kept"
    assert str(project) not in "".join(sqlite3.connect(moved / "mlruns" / "mlflow.db").iterdump()).replace("%20", " ")
    assert follow_move() is None


def test_locations_below_a_symbolic_link_are_corrected_without_calling_it_a_move(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an earlier version kept them, or as they are after the project was moved and a link left in its place."""
    run_id = log_an_artifact(open_store("moving"))
    moved = project.with_name("elsewhere")
    shutil.move(project, moved)
    project.symlink_to(moved)
    monkeypatch.chdir(project)
    assert follow_move() is None
    assert read_the_artifact(open_store("moving"), run_id) == "kept"
    assert (project / "mlruns").as_uri() not in "".join(sqlite3.connect("mlruns/mlflow.db").iterdump())


def test_a_database_that_cannot_be_opened_fails_at_once(project: Path) -> None:
    database = project / "mlruns" / "mlflow.db"
    database.mkdir(parents=True)
    started = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        open_store("broken")
    assert time.monotonic() - started < 5  # MLflow would try again for 100 s


def test_a_database_of_another_program_is_named_as_such(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect("other.db")) as database:
        database.execute("CREATE TABLE notes (text)")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    with pytest.raises(UserError, match="it is no MLflow store: set MLFLOW_TRACKING_URI"), store_errors():
        open_store("some")


def test_a_deleted_experiment_is_named_with_the_way_to_bring_it_back(project: Path) -> None:
    store = open_store("gone")
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(UserError, match=f"mlflow experiments restore -x {store.experiment_id}"):
        open_store("gone")


def test_a_copy_deletes_its_own_files_and_not_those_of_the_original(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "params.yaml").touch()
    original = open_store("copied")
    run_id = log_an_artifact(original)
    original.client.delete_run(run_id)
    copy = project.with_name("copy")
    shutil.copytree(project, copy)
    monkeypatch.chdir(copy)
    main(lambda: None)  # any command of this project
    assert f"no longer points into {(project / 'mlruns').as_uri()}" in capsys.readouterr().err
    collected = CliRunner().invoke(gc, ["--backend-store-uri", f"sqlite:///{copy}/mlruns/mlflow.db"])
    assert collected.exit_code == 0, collected.output
    assert not list(copy.rglob("note.txt"))
    assert list(project.rglob("note.txt"))


@pytest.mark.parametrize("answers", [False, True], ids=["refuses", "silent"])
def test_a_database_out_of_reach_is_named_within_ten_seconds_and_without_its_password(
    answers: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    started = time.monotonic()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers:
            server.listen()  # the kernel connects, and nobody answers
        address = f"postgresql+psycopg://me:se/cret@127.0.0.1:{server.getsockname()[1]}/mlflow?sslpassword=secret"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with (
            pytest.raises(UserError, match=r"postgresql\+psycopg://me:\*\*\*@127.*(refused|timeout)") as raised,
            store_errors(),
        ):
            open_store("unreachable")
    assert time.monotonic() - started < 10
    assert "cret" not in str(raised.value)


@pytest.mark.parametrize("address", ["http://me:s3cr3t@{}", "http://{}?token=s3cr3t", "http://{}/x?api_key=s3cr3t"])
def test_a_server_out_of_reach_is_named_without_its_secrets(
    address: str, project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(host))
        with pytest.raises(UserError, match=host) as raised, store_errors():
            open_store("unreachable")
    assert "s3cr3t" not in str(raised.value) + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////srv/a=b/mlflow.db", "sqlite:////srv/a=b/mlflow.db"),
        ("https://me:se@cr/et@host/x?a=1", "https://me:***@host/x?a=1"),
        ("https://host/x?Token=s3cr&a=1&X-Amz-Signature=s3cr", "https://host/x?Token=***&a=1&X-Amz-Signature=***"),
        ("cannot reach mysql://me:secret@host, nor ftp://me:secret@host", "cannot reach mysql://me:***@host"),
    ],
)
def test_secrets_in_an_address_are_not_printed(text: str, shown: str) -> None:
    assert masked(text).startswith(shown)
    assert "s3cr" not in masked(text)
    assert "secret" not in masked(text)
