"""The container of the served model, by the commands of docs/using-the-model.md."""

import json
import os
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from support.finished_pipeline import ran
from support.project import PROJECT
from support.servers import free_port, wait_for_server

from image_classifier.project.definition import read_project
from image_classifier.tracking.publication import publish


def documented() -> str:
    """The commands that prepare the folder, as the page prints them."""
    page = (PROJECT / "docs" / "using-the-model.md").read_text(encoding="utf-8")
    found = re.search(r"## In a container.*?```sh\n(.*?)```", page, re.DOTALL)
    assert found
    return found[1]


def has_docker() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True).returncode == 0


@pytest.fixture
def container(project: Path) -> Path:
    """The folder with the Dockerfile, for the champion of a project; this project is the working directory."""
    publish(read_project(), ran())
    subprocess.run(["bash", "-euc", documented()], check=True, env=os.environ)
    return project / "build" / "container"


def test_the_folder_holds_the_model_with_pytorch_for_cpus(container: Path) -> None:
    dockerfile = (container / "Dockerfile").read_text()
    assert "COPY model_dir /opt/ml/model" in dockerfile
    assert f"pip install mlflow=={version('mlflow')}" in dockerfile
    index, *packages = (container / "model_dir" / "requirements.txt").read_text().splitlines()
    assert index == "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert f"torch=={version('torch').partition('+')[0]}" in packages  # of equal versions, pip takes the one with +cpu
    assert (container / "model_dir" / "served_model.py").exists()


@pytest.mark.skipif(not has_docker(), reason="no Docker is running")
def test_the_built_container_answers(container: Path, tmp_path: Path) -> None:
    subprocess.run(["docker", "build", "--tag", "classifier-test", container], check=True)
    port, log = free_port(), tmp_path / "container.log"
    run = ["docker", "run", "--rm", "--publish", f"127.0.0.1:{port}:8080", "classifier-test"]
    with log.open("wb") as output:
        server = subprocess.Popen(run, stdout=output, stderr=output)
    wait_for_server(f"http://127.0.0.1:{port}/ping", server, log)
    asked = json.dumps({"inputs": [[[[0] * 3] * 32] * 32]})
    answer = subprocess.check_output(
        ["curl", "-s", "-H", "Content-Type: application/json", "-d", asked, f"http://127.0.0.1:{port}/invocations"]
    )
    assert len(json.loads(answer)["predictions"][0]) == 10
    server.terminate()
    server.wait()
