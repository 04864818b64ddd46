"""The champion as MLflow serves it: requests over HTTP to a real `mlflow models serve`."""

import base64
import io
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

import mlflow.pyfunc
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image
from support.finished_pipeline import ran
from support.servers import free_port, wait_for_server

from image_classifier.model.model_file import load_model
from image_classifier.model.network import Classifier
from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.params import load_params
from image_classifier.sources.image_decoding import decode_image
from image_classifier.tracking.publication import publish

pytestmark = pytest.mark.xdist_group("serving")  # one server for all

IMAGE = np.zeros((1, 32, 32, 3), dtype=int)


def as_file(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def encoded(file: bytes) -> str:
    return base64.b64encode(file).decode()


PICTURE = encoded(as_file(Image.radial_gradient("L").resize((99, 66)), "PNG"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, evaluated: Path, empty_store: Path) -> Iterator[SimpleNamespace]:
    """The served champion of a project: the project's folder, the server's port and its process."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(evaluated, folder, dirs_exist_ok=True)
    params = load_params(folder / locations.PARAMS)
    (folder / "mlruns").mkdir()
    shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "--env-manager",
        "local",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "-m",
        f"models:/{params.runtime.registered_model}@champion",
    ]
    with pytest.MonkeyPatch.context() as patch, chdir(folder):
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("DVC_ROOT", raising=False)
        publish(read_project(), ran())
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
        log = folder / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_for_server(f"http://127.0.0.1:{port}/ping", process, log)
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
    written = pd.read_csv(server.folder / locations.PREDICTIONS).filter(like="p_").to_numpy()
    for part in (slice(0, 1), slice(1, 60)):
        answer = ask(server, {"inputs": images[part].tolist()})
        np.testing.assert_allclose(answer["predictions"], written[part], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"inputs": IMAGE[:, :28, :28].tolist()}, "an array of shape (1, 28, 28, 3)"),
        ({"inputs": IMAGE[0].tolist()}, "an array of shape (32, 32, 3)"),
        ({"inputs": IMAGE.transpose(0, 3, 1, 2).tolist()}, "an array of shape (1, 3, 32, 32)"),
        ({"inputs": []}, "this is an empty list"),
        ({"inputs": [[1, 2], [3]]}, "inhomogeneous shape"),
        ({"inputs": (IMAGE + 0.5).tolist()}, "values of type float64"),
        ({"inputs": (IMAGE + 256).tolist()}, "values from 256 to 256"),
        ({"inputs": (IMAGE - 1).tolist()}, "values from -1 to -1"),
        ({"inputs": IMAGE.astype(str).tolist()}, "values of type str"),
        ({"inputs": IMAGE.astype(bool).tolist()}, "values of type bool"),
        (
            {"inputs": [[[[True, 0, 0], *IMAGE[0, 0, 1:].tolist()], *IMAGE[0, 1:].tolist()]]},
            "true or false among numbers",
        ),
        ({"inputs": {"images": IMAGE.tolist()}}, "this is a dict"),
        ({"inputs": [[PICTURE], [PICTURE]]}, "values of type str"),
        ({"inputs": ["photo.jpg"]}, "image 1 is no base64"),
        ({"inputs": [PICTURE, encoded(b"meow")]}, "image 2 is no image that can be read here: give a PNG, JPEG"),
        ({"inputs": [PICTURE[:200]]}, "image 1 cannot be read"),
        ({"inputs": [PICTURE, IMAGE[0].tolist()]}, "input 2 is a list among texts"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1]]}}, "must be a dictionary with 'inputs' key"),
        ({}, "must be a dictionary with 'inputs' key"),
        ({"images": IMAGE.tolist()}, "must be a dictionary with 'inputs' key"),
        (IMAGE.tolist(), "must be a JSON dictionary"),
    ],
)
def test_an_input_that_is_no_image_is_refused_with_the_reason(server: SimpleNamespace, body: Any, reason: str) -> None:
    with pytest.raises(HTTPError) as refused:
        ask(server, body)
    assert refused.value.code == 400
    answer = json.load(refused.value)
    assert reason in answer["message"]
    assert len(answer["message"]) < 400
    assert "\n" not in answer["message"]
    assert "stack_trace" not in answer


def test_a_photo_of_any_size_is_answered_with_classes_the_best_first(server: SimpleNamespace) -> None:
    images = np.load(server.folder / "data/digits/test_images.npy")[:3]
    large = [Image.fromarray(image).resize((640, 480)) for image in images]
    files = [(as_file(picture, "PNG"), as_file(picture, "JPEG", quality=95)) for picture in large]
    asked = [f"data:image/png;base64,{encoded(png)}" for png, _ in files] + [encoded(jpeg) for _, jpeg in files]
    answers = ask(server, {"inputs": asked})["predictions"]
    model = load_model(server.folder / locations.MODEL)
    for file, answer in zip([png for png, _ in files] + [jpeg for _, jpeg in files], answers, strict=True):
        raw = torch.tensor(decode_image(io.BytesIO(file), 32)[np.newaxis])
        with torch.inference_mode():
            expected = dict(zip(model.classes, Classifier(model.net).eval()(raw)[0].tolist(), strict=True))
        assert [best["class"] for best in answer] == sorted(expected, key=lambda name: -expected[name])
        for best in answer:
            assert best["probability"] == pytest.approx(expected[best["class"]], abs=1e-5)


def test_a_request_has_a_limit(server: SimpleNamespace) -> None:
    with pytest.raises(HTTPError) as refused:
        ask(server, {"inputs": 1001 * [PICTURE]})
    assert refused.value.code == 413
    assert json.load(refused.value)["message"] == "1001 images in one request; send at most 1000 at once"


def test_no_image_is_decoded_after_the_server_has_given_up(
    server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding 1,000 files of 10 kB with 88 million pixels each kept a thread busy for an hour after the answer."""
    monkeypatch.chdir(server.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    monkeypatch.setenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "0")
    name = load_params(server.folder / locations.PARAMS).runtime.registered_model
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion").unwrap_python_model()
    with pytest.raises(MlflowException, match="no time was left for image 1: send fewer or smaller images"):
        model.predict(None, [PICTURE])
    monkeypatch.delenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT")
    assert len(model.predict(None, [PICTURE])) == 1


def test_one_large_photo_among_many_does_not_multiply_the_memory(server: SimpleNamespace) -> None:
    """MLflow would convert texts to an array with 4 bytes a character, each text as long as the longest: 8 GB here."""
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    large = encoded(as_file(Image.fromarray(noise), "BMP"))
    assert len(ask(server, {"inputs": [large, *(200 * [PICTURE])]})["predictions"]) == 201
    peak_mb = next(
        int(line.split()[1]) / 1000
        for process in psutil.Process(server.process.pid).children(recursive=True)
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    assert peak_mb < 2000


def test_the_server_listens_to_this_machine_alone(server: SimpleNamespace) -> None:
    started = psutil.Process(server.process.pid)
    listening = [
        connection.laddr
        for process in (started, *started.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {("127.0.0.1", server.port)}
