"""A real `mlflow server` on loopback: absent, killed, back again, silent, and on PostgreSQL."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from mlflow.entities import Run
from support.finished_pipeline import epochs, follow, ran
from support.servers import free_port, wait_for_server

from image_classifier.project.definition import read_project
from image_classifier.project.params import Params
from image_classifier.system.errors import UserError
from image_classifier.tracking.publication import publish
from image_classifier.tracking.store import open_store


@contextmanager
def mlflow_server(port: int, folder: Path, database: str) -> Iterator[None]:
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        database,
        "--artifacts-destination",
        str(folder / "server-artifacts"),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight fewer processes
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_server(f"http://127.0.0.1:{port}/health", server, folder / "server.log")
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # it and its worker die
        server.wait()


def only_run(params: Params) -> Run:
    store = open_store(params.runtime.experiment)
    (run,) = store.client.search_runs([store.experiment_id])
    return run


def test_a_server_that_dies_in_mid_training_has_the_whole_run_after_it_is_back(
    project: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    database = f"sqlite:///{project}/server.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cr3t@127.0.0.1:{port}")
    first, second = epochs(2)
    with follow() as live:  # there is no server yet
        live.log_epoch(first)
    said = capsys.readouterr().err
    assert said.count("warning: MLflow failed") == 1
    with mlflow_server(port, project, database):
        training = follow()
        live = training.__enter__()
        live.log_epoch(first)
    live.log_epoch(second)
    training.__exit__(None, None, None)
    said += capsys.readouterr().err
    assert said.count("warning: MLflow failed") == 2
    with pytest.raises(UserError, match="failed: NewConnectionError") as refused:
        publish(read_project(), ran())

    with mlflow_server(port, project, database):
        assert only_run(tiny_params).info.status == "RUNNING"
        publish(read_project(), ran())
        run = only_run(tiny_params)
        assert run.info.status == "FINISHED"
        client = open_store(tiny_params.runtime.experiment).client
        history = client.get_metric_history(run.info.run_id, "epoch/test_accuracy")
        assert [(metric.step, metric.value) for metric in history] == [(1, 0.4), (2, 0.7)]
        page = Path(client.download_artifacts(run.info.run_id, "gradcam/index.html"))
        assert page.read_bytes() == (project / "reports/gradcam/index.html").read_bytes()
        assert client.get_model_version_by_alias(tiny_params.runtime.registered_model, "champion")
        assert publish(read_project(), ran()).actions == ()
    said += str(refused.value) + "".join(capsys.readouterr())
    kept = (
        (project / "server.db").read_bytes(),
        *(path.read_bytes() for path in (project / "server-artifacts").rglob("*") if path.is_file()),
    )
    assert not any(b"s3cr3t" in content for content in (said.encode(), *kept))


def test_a_server_that_never_answers_delays_a_training_once_for_seconds(
    project: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with follow() as live:
            for epoch in epochs(20):
                live.log_epoch(epoch)
        assert time.monotonic() - started < 8  # 2 requests of 1 s and a pause between them
    assert capsys.readouterr().err.count("warning: MLflow failed") == 1


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The address of a temporary PostgreSQL server on loopback."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or not find_spec("psycopg") or not shutil.which("runuser"):
        pytest.skip("needs Debian's postgresql, its user `postgres`, and psycopg[binary]")
    folder = Path(subprocess.check_output(["runuser", "-u", "postgres", "--", "mktemp", "-d"], text=True).strip())
    port = free_port()

    def command(name: str, *arguments: str) -> None:
        words = ["runuser", "-u", "postgres", "--", str(found[-1].with_name(name)), "-D", str(folder / "data")]
        subprocess.run([*words, *arguments], check=True, cwd="/", stdout=subprocess.DEVNULL)

    command("initdb", "--auth", "trust", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
    command("pg_ctl", "--wait", "-o", options, "-l", str(folder / "log"), "start")
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        command("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_a_server_on_postgresql_holds_the_same_run(
    project: Path, tiny_params: Params, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with mlflow_server(port, project, postgresql):
        with follow() as live:
            for epoch in epochs(2):
                live.log_epoch(epoch)
        followed = only_run(tiny_params)
        publish(read_project(), ran())
        assert only_run(tiny_params).info.run_id == followed.info.run_id
        assert publish(read_project(), ran()).actions == ()
