"""`compute.compile`: the same network either way, and training continues where there is no working compiler."""

from pathlib import Path

import pytest
import torch

from image_classifier.model.compute import prepare_compute
from image_classifier.model.network import make_network
from image_classifier.project.params import Params


def test_a_compiler_that_fails_costs_one_line(
    tiny_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))  # nothing compiled earlier is found
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(broken),))  # read from CXX when it was imported

    compute = prepare_compute(tiny_params.compute.model_copy(update={"compile": "on"}))
    net = compute.place(make_network(tiny_params.model, 10, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)))
    forward = compute.faster(net)
    images = torch.zeros(2, 3, 32, 32)
    first, second = forward(images), forward(images)

    assert first.shape == second.shape == (2, 10)
    assert capsys.readouterr().out.count("torch.compile failed") == 1
