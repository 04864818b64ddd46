"""The champion as MLflow serves it: a real `mlflow models serve`, asked over HTTP."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import psutil
import pytest
from evaluated_digits import write_project
from finished_pipeline import ALL
from test_tracking_server import free_port, wait_for

from cifar_resnet import layout
from cifar_resnet.project import read_project
from cifar_resnet.tracking import publish

pytestmark = pytest.mark.xdist_group("serving")  # one server for all

IMAGE = np.zeros((1, 32, 32, 3), dtype=int)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[SimpleNamespace]:
    """The served champion of a project: its project's folder, its address and its process."""
    folder = tmp_path_factory.mktemp("served")
    params = write_project(folder)
    (folder / "mlruns").mkdir()
    shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1",
        "--port", str(port), "-m", f"models:/{params.runtime.registered_model}@champion",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, chdir(folder):
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("DVC_ROOT", raising=False)
        publish(read_project(), ALL - {"lr_find"})
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
        log = folder / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process, log)
        yield SimpleNamespace(folder=folder, port=port, process=process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(server: SimpleNamespace, body: Any) -> Any:
    request = Request(
        f"http://127.0.0.1:{server.port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_the_served_model_gives_the_probabilities_that_evaluate_wrote(server: SimpleNamespace) -> None:
    images = np.load(server.folder / "data/digits/test_images.npy")
    written = pd.read_csv(server.folder / layout.PREDICTIONS).filter(like="p_").to_numpy()
    for part in (slice(0, 1), slice(1, 60)):
        answer = ask(server, {"inputs": images[part].tolist()})
        np.testing.assert_allclose(answer["predictions"], written[part], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"inputs": IMAGE[:, :28, :28].tolist()}, "an array of shape (1, 28, 28, 3)"),
        ({"inputs": IMAGE[0].tolist()}, "an array of shape (32, 32, 3)"),
        ({"inputs": IMAGE.transpose(0, 3, 1, 2).tolist()}, "an array of shape (1, 3, 32, 32)"),
        ({"inputs": []}, "this is a list"),
        ({"inputs": [[1, 2], [3]]}, "inhomogeneous shape"),
        ({"inputs": (IMAGE + 0.5).tolist()}, "values of type float64"),
        ({"inputs": (IMAGE + 256).tolist()}, "values from 256 to 256"),
        ({"inputs": (IMAGE - 1).tolist()}, "values from -1 to -1"),
        ({"inputs": IMAGE.astype(str).tolist()}, "values of type <U"),
        ({"inputs": IMAGE.astype(bool).tolist()}, "values of type bool"),
        ({"inputs": {"images": IMAGE.tolist()}}, "this is a dict"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1]]}}, "this is a DataFrame"),
        ({}, "exactly one of the input fields"),
        ({"images": IMAGE.tolist()}, "exactly one of the input fields"),
        (IMAGE.tolist(), "must be a JSON dictionary"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(server: SimpleNamespace, body: Any, reason: str) -> None:
    with pytest.raises(HTTPError) as refused:
        ask(server, body)
    assert refused.value.code == 400
    answer = json.load(refused.value)
    assert reason in answer["message"]
    assert "stack_trace" not in answer


def test_the_server_listens_to_this_machine_alone(server: SimpleNamespace) -> None:
    started = psutil.Process(server.process.pid)
    listening = [
        connection.laddr
        for process in (started, *started.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {("127.0.0.1", server.port)}
