"""`compute.compile`: the same network either way, and training continues where there is no working compiler."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._inductor.exc import InductorError

from image_classifier.model.compute import prepare_compute
from image_classifier.model.network import make_network
from image_classifier.project.params import Params
from image_classifier.system.errors import UserError


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
    forward = compute.compiled(net)
    images = torch.zeros(2, 3, 32, 32)
    first, second = forward(images), forward(images)

    assert first.shape == second.shape == (2, 10)
    assert capsys.readouterr().out.count("torch.compile failed") == 1


def test_a_compiler_that_fails_in_one_of_several_processes_ends_the_training(tiny_params: Params) -> None:
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def net(images: torch.Tensor) -> torch.Tensor:
        raise InductorError(RuntimeError("no compiler"), None)

    compute = prepare_compute(tiny_params.compute.model_copy(update={"compile": "on"}))
    with pytest.raises(UserError, match=r"in one of 2 processes: set compute\.compile to off"):
        replace(compute, num_processes=2).compiled(net)(torch.zeros(2))


def test_an_error_of_the_network_is_not_taken_for_one_of_the_compiler(tiny_params: Params) -> None:
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def run_out_of_memory() -> None:
        raise torch.OutOfMemoryError("no memory is left")

    def net(images: torch.Tensor) -> torch.Tensor:
        run_out_of_memory()
        return images

    compute = prepare_compute(tiny_params.compute.model_copy(update={"compile": "on"}))
    with pytest.raises(torch.OutOfMemoryError, match="no memory is left"):
        compute.compiled(net)(torch.zeros(2))
