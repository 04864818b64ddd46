"""Devices and threads, in processes of their own."""

import os
import resource
import subprocess
import sys

import pytest
from support.compute import settings
from support.project import PROJECT

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
