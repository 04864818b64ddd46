"""`make` installs packages, from package indexes on this machine that hold small wheels with the real names."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from support.project import PROJECT

REQUIREMENTS = """
filelock==4.2.11          # via torch
nvidia-cudnn-cu13==9.24.0.43 ; sys_platform == 'linux'  # via torch
torch==2.14.1             # via cifar-resnet (pyproject.toml)
torchvision==0.29.1       # via cifar-resnet (pyproject.toml)
triton==3.8.0 ; sys_platform == 'linux'  # via torch
"""
CUDA = ["nvidia-cudnn-cu13==9.24.0.43", "triton==3.8.0"]


def wheel(index: Path, name: str, version: str, requires: list[str], num_bytes: int = 0) -> None:
    """Put a wheel into a package index, in the form of PEP 503."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        info = f"{stem}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
        archive.writestr(f"{name}.bin", bytes(num_bytes))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the Makefile and a few requirements."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Makefile").write_bytes((PROJECT / "Makefile").read_bytes())
    (folder / "requirements.txt").write_text(REQUIREMENTS, encoding="utf-8")
    return folder


@pytest.fixture
def indexes(tmp_path: Path) -> Iterator[str]:
    """The address of two package indexes: `pypi`, like the public one, and PyTorch's with the build for CPUs."""
    wheel(tmp_path / "pypi", "filelock", "4.2.11", [])
    for requirement in CUDA:
        name, version = requirement.split("==")
        wheel(tmp_path / "pypi", name, version, [])
    for build, index, requires in (("", "pypi", [*CUDA, "filelock"]), ("+cpu", "cpu", ["filelock"])):
        wheel(tmp_path / index, "torch", f"2.14.1{build}", requires, num_bytes=12_000_000)
        wheel(tmp_path / index, "torchvision", f"0.29.1{build}", ["torch==2.14.1"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def make(project: Path, indexes: str, *variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "MFLAGS"))}
    environment |= {"PIP_INDEX_URL": f"{indexes}/pypi", "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    command = ["make", ".venv/.runtime-installed", f"TORCH_INDEX={indexes}/cpu", *variables]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def installed(project: Path) -> dict[str, str]:
    folder = project / ".venv/lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    found = (path.name.removesuffix(".dist-info").rpartition("-") for path in folder.glob("*.dist-info"))
    return {name: version for name, _, version in found if name not in {"pip", "setuptools"}}


def test_the_build_for_cpus_comes_from_pytorchs_index_without_cuda(project: Path, indexes: str) -> None:
    done = make(project, indexes, "TORCH=cpu")
    assert done.returncode == 0, done.stderr
    assert installed(project) == {"filelock": "4.2.11", "torch": "2.14.1+cpu", "torchvision": "0.29.1+cpu"}
    assert len(done.stdout.splitlines()) <= 6, done.stdout
    assert "torch-2.14.1+cpu-py3-none-any.whl (12.0 MB)" in done.stdout.replace("%2B", "+")

    (project / "requirements.txt").touch()  # as after `git pull`: still the same build
    assert make(project, indexes).returncode == 0
    assert installed(project)["torch"] == "2.14.1+cpu"
    assert "nvidia_cudnn_cu13" not in installed(project)


def test_all_exact_versions_are_installed_and_a_failure_is_shown(project: Path, indexes: str) -> None:
    other = make(project, indexes, "TORCH=cu118")
    assert (other.returncode, "error: TORCH is cu118; allowed: cpu" in other.stderr) == (2, True)
    with (project / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write("unheard-of==1.0\n")
    failed = make(project, indexes)
    assert failed.returncode == 2
    assert "No matching distribution found for unheard-of==1.0" in failed.stderr
    assert not (project / ".venv/.runtime-installed").exists()
    (project / "requirements.txt").write_text(REQUIREMENTS, encoding="utf-8")
    assert make(project, indexes).returncode == 0
    assert installed(project) == {
        "filelock": "4.2.11",
        "nvidia_cudnn_cu13": "9.24.0.43",
        "torch": "2.14.1",
        "torchvision": "0.29.1",
        "triton": "3.8.0",
    }
