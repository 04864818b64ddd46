"""What several tests share: the project's settings, tiny ones, and a copy of the project to run."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from joblib import cpu_count
from PIL import Image
from support.compared_runs import write_runs
from support.evaluated_digits import write_project
from support.finished_pipeline import commit, run, write_lock, write_outputs
from support.project import PROJECT, TINY, MakeOnce, copy_project, enter
from support.real_repro import STAGES, dvc, executed

from image_classifier.data import load_dataset
from image_classifier.project import locations
from image_classifier.project.params import Params, load_params
from image_classifier.project.recipes import overlay
from image_classifier.tracking.store import open_store

os.environ |= {
    "DVC_NO_ANALYTICS": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,  # a developer's own settings, such as signed commits, change no test
    "GIT_CONFIG_NOSYSTEM": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "OMP_NUM_THREADS": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # where dvc.yaml's `python` is looked up
}

# A shell starts background jobs with SIGINT ignored, and the processes that a test starts and interrupts inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores, since tests also wait for processes and servers."""
    return int(cpu_count()) + 1


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
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, as the working directory."""
    enter(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def two_pictures(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two test images; the working directory is a project with a trained network."""
    copy_project(evaluated, tmp_path, monkeypatch)
    pictures = Path("pictures")
    pictures.mkdir()
    images = load_dataset(locations.DATA / "digits").test_images
    for index in (3, 7):
        Image.fromarray(images[index]).save(pictures / f"{index}.png")
    (pictures / "notes.txt").write_text("no picture")
    return pictures


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """A function that returns a folder for all workers; its first caller fills the folder. Tests copy it."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        note = common / f"{name}.path"
        with FileLock(note.with_suffix(".lock")):
            if not note.exists():
                folder = tmp_path_factory.mktemp(name)
                fill(folder)
                note.write_text(str(folder), encoding="utf-8")
        return Path(note.read_text(encoding="utf-8"))

    return make


@pytest.fixture(scope="session")
def empty_store(make_once: MakeOnce) -> Path:
    """MLflow's database before the first run; MLflow takes 3 s to make it."""

    def fill(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
            open_store("cifar10-resnet")

    return make_once("store", fill) / "mlflow.db"


@pytest.fixture(scope="session")
def new_project(make_once: MakeOnce, empty_store: Path) -> Path:
    """A committed copy of the project with tiny settings and an empty MLflow store."""

    def fill(folder: Path) -> None:
        for name in ("pipeline", "src", "recipes", "images", "weights"):
            shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / ".dvc").mkdir()
        for name in ("config", "plots.html", ".gitignore"):
            shutil.copy(PROJECT / ".dvc" / name, folder / ".dvc")
        for name in ("dvc.yaml", ".gitattributes", ".gitignore", ".dvcignore"):
            shutil.copy(PROJECT / name, folder)
        overlay(PROJECT / "params.yaml", TINY, folder / "params.yaml")
        (folder / "mlruns").mkdir()
        shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
        run("git", "init", "--quiet", cwd=folder)
        commit(folder, "Tiny settings")

    return make_once("new", fill)


@pytest.fixture(scope="session")
def finished_project(make_once: MakeOnce, new_project: Path) -> Path:
    """The new project after `dvc repro`, committed."""

    def fill(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            copy_project(new_project, folder, patch)
            assert executed(dvc("repro")) == STAGES
            commit(folder, "Results")

    return make_once("finished", fill)


@pytest.fixture
def workspace(new_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the new project for one test, as the working directory."""
    return copy_project(new_project, tmp_path, monkeypatch)


@pytest.fixture
def finished(finished_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished project for one test, as the working directory."""
    return copy_project(finished_project, tmp_path, monkeypatch)


@pytest.fixture
def project(tiny_params: Params, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the outputs of all stages and an empty MLflow store, as the working directory."""
    enter(tmp_path, monkeypatch)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns" / "mlflow.db")
    shutil.copy(PROJECT / "dvc.yaml", tmp_path)
    write_outputs(tmp_path, tiny_params)
    write_lock("download", "lr_find")
    return tmp_path


@pytest.fixture(scope="session")
def evaluated(make_once: MakeOnce) -> Path:
    """A folder with the outputs of the stages before the report, for a small network that was trained for a moment."""
    return make_once("evaluated", write_project)


@pytest.fixture(scope="session")
def compared(make_once: MakeOnce, empty_store: Path) -> Path:
    """A DVC project with three tagged commits, as `write_runs` makes it."""
    return make_once("compared", lambda folder: write_runs(folder, empty_store))
