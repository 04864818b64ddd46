"""`make ui` with ports that cannot be used, and behind a proxy with another name."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from support.project import PROJECT
from test_tracking_server import free_port, wait_for

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


def test_the_ui_answers_to_the_name_that_a_proxy_gives_it_and_starts_no_jobs(project: Path) -> None:
    port, log = free_port(), project / "ui.log"
    names = {
        "MLFLOW_SERVER_ALLOWED_HOSTS": "lab.example:8443",
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://lab.example:8443",
    }
    with log.open("wb") as output:
        ui = subprocess.Popen(
            UI, env=environment(MLFLOW_PORT=str(port), **names), stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", ui, log)
        assert answer(port, "lab.example:8443") == 200
        assert answer(port, "elsewhere.example") == 403
        assert len(psutil.Process(ui.pid).children(recursive=True)) <= 2  # its worker, not MLflow's eight for jobs
    finally:
        os.killpg(ui.pid, signal.SIGKILL)
        ui.wait()


def test_no_server_that_is_described_runs_jobs() -> None:
    for page in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")]:
        for command in re.findall(r"^.*\bmlflow (?:server|ui)\b.*$", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert "`" in command or "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false" in command, f"{page.name}: {command}"
