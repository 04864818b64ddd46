import os
import re
import resource
import subprocess
import sys

import pytest
import torch
from joblib import cpu_count
from support.project import PROJECT
from torch import nn

from image_classifier.model.compute import PRECISIONS, native_precisions, prepare_compute
from image_classifier.model.distributed import SyncBatchNormCPU, join_processes, run_in_processes
from image_classifier.project.params import ComputeParams
from image_classifier.system.errors import UserError


def settings(**changed: object) -> ComputeParams:
    cpu = {"device": "cpu", "precision": "fp32", "compile": "off", "threads": 1, "processes": 1}
    return ComputeParams.model_validate(cpu | changed)


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


IN_A_CONTAINER = """
import pathlib, torch
from image_classifier.model.compute import prepare_compute
from image_classifier.project.params import load_params
import pipeline
def threads():
    return prepare_compute(load_params(pathlib.Path("params.yaml")).compute).threads
files = pathlib.Path("/sys/fs/cgroup")
(files / "cpu.max").write_text("100000 100000")
version_2 = threads()
(files / "cpu.max").unlink()
(files / "cpu").mkdir()
(files / "cpu" / "cpu.cfs_quota_us").write_text("50000")
(files / "cpu" / "cpu.cfs_period_us").write_text("100000")
print(version_2, threads())
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="one core is always allowed")
def test_auto_stays_within_the_quota_of_a_container_of_either_version_of_cgroups() -> None:
    mount = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs none /sys/fs/cgroup && exec "$0" "$@"',
    ]
    if subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system of its own")
    command = [*mount, sys.executable, "-c", IN_A_CONTAINER]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1 1\n"


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


def test_results_repeat_and_no_compiler_is_imported_unless_it_is_used() -> None:
    script = f"""
import sys, torch
from image_classifier.model.compute import prepare_compute
from image_classifier.project.params import ComputeParams
for choice in ("off", "on"):
    prepare_compute(ComputeParams.model_validate({settings().model_dump()!r} | {{"compile": choice}}))
    print(torch.are_deterministic_algorithms_enabled(), "torch._inductor" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT / "src", capture_output=True, text=True)
    assert done.stdout == "True False\nTrue True\n", done.stderr


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


def test_freed_memory_is_used_again_without_asking_the_kernel() -> None:
    script = """
import pathlib, resource
import pipeline, torch
from image_classifier.model.compute import prepare_compute
from image_classifier.project.params import load_params
prepare_compute(load_params(pathlib.Path("params.yaml")).compute)
def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = page_faults()
for _ in range(10):
    torch.ones(100_000_000, dtype=torch.uint8)
print(page_faults() - before)
"""
    # In a new process: the heap that other tests leave decides where a block fits.
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 5 * 100_000_000 / resource.getpagesize()  # of 10; the heap grows in the first rounds
