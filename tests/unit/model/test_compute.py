import os
import re

import pytest
import torch
from joblib import cpu_count
from support.compute import settings
from torch import nn

from image_classifier.model.compute import PRECISIONS, native_precisions, prepare_compute
from image_classifier.model.distributed import SyncBatchNormCPU, join_processes, run_in_processes
from image_classifier.system.errors import UserError


def test_the_settings_are_used_and_named() -> None:
    compute = prepare_compute(settings(threads=2))
    assert torch.get_num_threads() == 2
    assert str(compute) == "cpu, fp32, 2 threads"
    assert str(prepare_compute(settings(precision="bf16"))) == "cpu, bf16, 1 thread"


def test_auto_means_a_thread_for_each_core_that_this_process_may_use() -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert prepare_compute(settings(threads="auto")).threads == 1
    finally:
        os.sched_setaffinity(0, cores)
    assert prepare_compute(settings(threads="auto")).threads == len(cores)


def test_a_format_that_the_hardware_emulates_gives_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    prepare_compute(settings(precision="fp32"))
    assert capsys.readouterr().err == ""
    for precision in ("bf16", "fp16"):
        prepare_compute(settings(precision=precision))
        said = capsys.readouterr().err
        assert f"compute.precision is {precision}, which this cpu has to emulate: slow; auto would take fp32" in said


def test_a_gpu_without_bfloat16_takes_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: including_emulation)  # as on a T4
    assert native_precisions(torch.device("cuda")) == ["fp16", "fp32"]


def test_auto_on_a_mac_says_that_the_cpu_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert prepare_compute(settings(device="auto")).device == torch.device("cpu")
    (line,) = capsys.readouterr().err.splitlines()
    assert "the CPU is used, since Apple's GPU (MPS) was never tried here" in line


def test_more_threads_than_cores_give_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    prepare_compute(settings(threads=cpu_count()))
    assert capsys.readouterr().err == ""
    prepare_compute(settings(threads=1024))
    assert f"compute.threads is 1024, and this process may use {cpu_count()} cores" in capsys.readouterr().err
    torch.set_num_threads(1)


def test_far_more_processes_than_cores_are_refused_before_one_starts() -> None:
    with pytest.raises(UserError, match=rf"compute.processes is 1024; allowed here: 1 to {2 * cpu_count()}"):
        run_in_processes("pipeline.train", 1024)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("LOCAL_RANK", str(torch.cuda.device_count()))
    with pytest.raises(UserError, match=rf"one per GPU, and this machine has {torch.cuda.device_count()};"):
        join_processes(use_cuda=True)


def test_a_rank_that_a_cluster_sets_makes_no_worker_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(variable, value)
    assert join_processes(use_cuda=False) == (0, 1, torch.device("cpu"))


def test_batch_norm_over_processes_keeps_the_precision_of_its_maps() -> None:
    norm = SyncBatchNormCPU(4)
    maps = torch.randn(8, 4, 2, 2, dtype=torch.bfloat16)
    torch.testing.assert_close(norm(maps), torch.nn.BatchNorm2d(4)(maps), rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize(("precision", "dtype"), PRECISIONS.items())
def test_products_are_computed_in_the_chosen_precision(precision: str, dtype: torch.dtype) -> None:
    with prepare_compute(settings(precision=precision)).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_auto_compiles_nothing_on_a_cpu_and_knows_its_precision() -> None:
    compute = prepare_compute(settings(compile="auto", precision="auto"))
    assert not compute.compile
    native = {"avx512_bf16", "amx_bf16"} & {name for name, has in torch.cpu.get_capabilities().items() if has}
    assert compute.precision == (torch.bfloat16 if native else torch.float32)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="device is cuda, but no CUDA device is usable here: set it to auto"):
        prepare_compute(settings(device="cuda"))


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=re.escape("there is no C++ compiler here: install g++, or set it to auto")):
        prepare_compute(settings(compile="on"))


def test_weights_are_placed_channels_last() -> None:
    convolution = prepare_compute(settings()).place(nn.Conv2d(4, 8, kernel_size=3))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
