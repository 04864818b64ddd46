"""Weights to start from, published or one's own: fetched, kept, and trained further."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import load_file, save
from support.real_repro import STAGES, all_runs, dvc, executed
from support.servers import free_port
from support.settings import change

from image_classifier.model.network import make_network
from image_classifier.project import locations
from image_classifier.project.params import TimmParams

NAME = "test_efficientnet"
ADDRESS = f"/timm/{NAME}.r160_in1k/resolve/main/model.safetensors"


class Hub(BaseHTTPRequestHandler):
    """One file, with the headers that huggingface_hub needs."""

    content = b""
    num_sent = 0

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == ADDRESS else 404)
        self.send_header("X-Repo-Commit", 40 * "a")
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        if self.path == ADDRESS:
            self.wfile.write(self.content)
            type(self).num_sent += 1

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    net = make_network(TimmParams(network="timm", name=NAME), 1000, (0, 0, 0), (1, 1, 1))
    Hub.content = save({name.removeprefix("body."): value for name, value in net.state_dict().items()})
    Hub.num_sent = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield Hub
        server.shutdown()


def use_timm() -> None:
    change(
        model={"network": "timm", "name": NAME},
        train={"start_from": "pretrained", "layer_decay": 0.8, "lr_min": 0.001, "lr_max": 0.02},
        gradcam={"layer": "stride4"},
    )


def test_published_weights_are_fetched_once_trained_further_and_named_in_mlflow(
    workspace: Path, hub: type[Hub]
) -> None:
    use_timm()
    assert executed(dvc("repro")) == STAGES
    fetched = load_file(locations.START)
    assert "body.conv_stem.weight" in fetched
    assert not any(name.startswith("body.classifier") for name in fetched)
    (run,) = all_runs(workspace)
    assert run.data.tags["start_weights_md5"] == hashlib.md5(locations.START.read_bytes()).hexdigest()
    assert run.data.metrics["evaluate/accuracy"] > 0
    change(data={"broken_images": "leave_out"})
    assert executed(dvc("repro", "lr_find")) == ["download"], "the weights are the same"
    assert hub.num_sent == 1


def test_an_edit_of_the_weights_file_trains_again(finished: Path) -> None:
    mine = locations.WEIGHTS / "mine.pt"
    shutil.copy(locations.MODEL, mine)
    change(train={"start_from": mine.name, "lr_min": 0.001, "lr_max": 0.02})  # whatever a sweep from there finds
    assert executed(dvc("repro", "train")) == STAGES[:3]
    model = torch.load(mine, weights_only=True)
    model["weights"]["classifier.bias"] += 1
    torch.save(model, mine)
    assert executed(dvc("repro", "train")) == STAGES[:3]
    assert executed(dvc("repro", "train")) == []


def test_without_a_network_one_line_says_which_file_to_copy_where(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_timm()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    done = subprocess.run([sys.executable, "-m", "pipeline.download"], capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error"))
    assert f"copy that file to weights/{NAME}.safetensors" in line
    assert "Traceback" not in done.stderr
