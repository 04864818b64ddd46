"""`make ui` with ports that cannot be used, and behind a proxy with another name."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from support.finished_pipeline import ran
from support.project import PROJECT
from support.servers import free_port, wait_for_server

from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.store_location import follow_move
from image_classifier.tracking.publication import publish

UI = [sys.executable, "-m", "pipeline.ui"]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(PROJECT)} | more


@pytest.mark.parametrize("port", ["in use", "http", "70000"])
def test_a_port_that_cannot_be_used_is_named_before_anything_starts(port: str, project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1]) if port == "in use" else port
        done = subprocess.run(UI, env=environment(MLFLOW_PORT=port), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    *_, line = done.stderr.splitlines()  # the lines before it say that the store was copied
    assert line.startswith("error: ")
    assert port in line
    assert "MLFLOW_PORT" in line


def answer(port: int, host: str) -> int:
    """The HTTP status of a request from a page that a browser has loaded from https://`host`."""
    headers = {"Host": host, "Origin": f"https://{host}", "Content-Type": "application/json"}
    body = json.dumps({"experiment_ids": ["0"]}).encode()
    request = Request(f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/runs/search", body, headers)
    try:
        with urlopen(request, timeout=30) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code


@contextmanager
def running_ui(log: Path, **more: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The port and the process of `pipeline.ui` for the project in the working directory."""
    port = free_port()
    with log.open("wb") as output:
        ui = subprocess.Popen(
            UI, env=environment(MLFLOW_PORT=str(port), **more), stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for_server(f"http://127.0.0.1:{port}/health", ui, log)
        yield port, ui
    finally:
        os.killpg(ui.pid, signal.SIGKILL)
        ui.wait()


def test_the_ui_answers_to_the_name_that_a_proxy_gives_it_and_starts_no_jobs(project: Path) -> None:
    names = {
        "MLFLOW_SERVER_ALLOWED_HOSTS": "lab.example:8443",
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://lab.example:8443",
    }
    with running_ui(project / "ui.log", **names) as (port, ui):
        assert answer(port, "lab.example:8443") == 200
        assert answer(port, "elsewhere.example") == 403
        assert len(psutil.Process(ui.pid).children(recursive=True)) <= 2  # its worker, not MLflow's eight for jobs


def test_the_ui_shows_files_of_a_store_that_is_used_by_another_path(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a symbolic link to its folder: this is no move, and locations keep their one form."""
    follow_move()  # the fixture copied the store
    link = tmp_path_factory.mktemp("link") / "to the store"
    link.symlink_to(project / "mlruns")
    with running_ui(project / "ui.log") as (port, _), monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{link}/mlflow.db")
        assert follow_move() is None
        published = publish(read_project(), ran())
        link.unlink()
        file = f"http://127.0.0.1:{port}/get-artifact?path=model_card.md&run_uuid={published.run_id}"
        with urlopen(file, timeout=30) as response:
            assert response.read() == locations.MODEL_CARD.read_bytes()
    assert follow_move() is None


def test_no_server_that_is_described_runs_jobs() -> None:
    for page in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")]:
        for command in re.findall(r"^.*\bmlflow (?:server|ui)\b.*$", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert "`" in command or "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false" in command, f"{page.name}: {command}"
