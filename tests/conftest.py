"""What several tests share: the project's settings, tiny ones, and a copy of the project to run."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest
from support.project import PROJECT, TINY

from cifar_resnet.params import Params, load_params
from pipeline.demo import overlay

os.environ |= {
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "OMP_NUM_THREADS": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # where dvc.yaml's `python` is looked up
}

# A shell starts background jobs with it ignored, and so would be every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["support.finished_pipeline"]

# `make test-fast` leaves out the tests that use one of these, themselves or by way of a fixture or helper.
SLOW = (
    "benchmarks.stopwatch", "cifar_resnet.tracking", "http.server", "mlflow", "multiprocessing", "nbclient",
    "playwright", "psutil", "socket", "subprocess",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start processes, servers or browsers, or open an MLflow store."""
    for item in items:
        assert isinstance(item, pytest.Function)
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        functions = [item.function, *(definition.func for definitions in fixtures for definition in definitions)]
        if any(name.startswith(SLOW) for function in functions for name in modules_used(function, set())):
            item.add_marker("slow")


def modules_used(function: Callable[..., object], seen: set[object]) -> Iterator[str]:
    """The modules that a test's function uses, and those of the helpers beside it."""
    if not isinstance(function, FunctionType) or function in seen:
        return
    seen.add(function)
    for name in names_in(function.__code__):
        value = function.__globals__.get(name)
        module = value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))
        yield module
        if module.startswith(("support.", "test_")) and callable(value):
            yield from modules_used(value, seen)


def names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


@pytest.fixture(scope="session")
def params() -> Params:
    """The project's own settings."""
    return load_params(PROJECT / "params.yaml")


@pytest.fixture
def tiny_params_file(tmp_path: Path) -> Path:
    """A params.yaml with which every stage takes seconds, on embedded data."""
    overlay(PROJECT / "params.yaml", TINY, tmp_path / "params.yaml")
    return tmp_path / "params.yaml"


@pytest.fixture
def tiny_params(tiny_params_file: Path) -> Params:
    return load_params(tiny_params_file)


@pytest.fixture
def workspace(tiny_params_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed copy of the project with tiny settings, as the working directory; no MLflow store is set."""
    folder = tiny_params_file.parent
    for name in ("pipeline", "src", "recipes", "images"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".dvc").mkdir()
    for name in (
        "dvc.yaml",
        ".gitattributes",
        ".gitignore",
        ".dvcignore",
        ".dvc/config",
        ".dvc/plots.html",
        ".dvc/.gitignore",
    ):
        shutil.copy(PROJECT / name, folder / name)
    (folder / "mlruns").mkdir()
    monkeypatch.chdir(folder)
    for variable in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "CIFAR10_SOURCE", "PYTHONPATH"):
        monkeypatch.delenv(variable, raising=False)
    author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "--message", "Tiny settings"]):
        subprocess.run(["git", *command], check=True)
    return folder
