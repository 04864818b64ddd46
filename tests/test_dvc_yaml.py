"""`dvc.yaml` against the code: a missing dependency would leave stale results in DVC's cache."""

import ast
import importlib
import inspect
import re
import shutil
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from ruamel.yaml import YAML
from support.finished_pipeline import run_train

from image_classifier.project import locations
from pipeline import train
from pipeline.demo import overlay

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")


def setting(match: re.Match[str]) -> str:
    section, name = match[1].split(".")
    return str(SETTINGS[section][name])


RESOLVED = re.sub(r"\$\{([\w.]+)\}", setting, (ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES = YAML(typ="safe", pure=True).load(RESOLVED)["stages"]
# These modules start stages, print, check, or move files; none changes what a stage computes.
OBSERVERS = (
    "pipeline/__init__.py",
    "pipeline/stage.py",
    *(f"src/image_classifier/{name}.py" for name in ("__init__", "console", "errors", "files", "git",
                                                 "layout", "locks", "masking", "networks/__init__",
                                                 "params", "project", "records", "store_location", "surroundings")),
    "src/image_classifier/plots/__init__.py",
    "src/image_classifier/tracking/",
)  # fmt: skip
FOLLOWERS = (
    "src/image_classifier/system/progress.py",
    "src/image_classifier/tracking/",
)  # they get results, and give none back
COMPUTING = ("albumentations", "cv2", "numpy", "pandas", "PIL", "scipy", "sklearn", "torch", "torchvision")
UNTRACKED = {"runtime", "project", "inputs"}  # never change a result


def imported_files(file: Path) -> set[Path]:
    """The project's own files that `file` imports, directly or through other files, but not through an observer."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        for module in imported_modules(waiting.pop()):
            path = ROOT.joinpath(*(["src"] if module.startswith("image_classifier") else []), *module.split("."))
            for candidate in (path.with_suffix(".py"), path / "__init__.py"):
                if candidate.exists() and candidate not in found:
                    found.add(candidate)
                    if not is_observer(candidate):
                        waiting.append(candidate)
    return found


def imported_modules(file: Path) -> set[str]:
    return {module for module in all_imported_modules(file) if module.split(".")[0] in ("pipeline", "image_classifier")}


def all_imported_modules(file: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def is_observer(file: Path) -> bool:
    return file.relative_to(ROOT).as_posix().startswith(OBSERVERS)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_that_can_change_its_outputs(stage: str) -> None:
    entry = ROOT / "pipeline" / f"{stage}.py"
    needed = {file.relative_to(ROOT).as_posix() for file in imported_files(entry) | {entry} if not is_observer(file)}
    is_code = ("pipeline/", "src/")
    assert {dep for dep in STAGES[stage]["deps"] if dep.startswith(is_code)} >= needed
    assert all((ROOT / dep).exists() for dep in STAGES[stage]["deps"] if dep.startswith(is_code))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_takes_the_sections_of_params_that_dvc_tracks_for_it(stage: str) -> None:
    run = importlib.import_module(f"pipeline.{stage}").run
    tracked = {key.split(".")[0] for key in STAGES[stage]["params"]}
    assert set(inspect.signature(run).parameters) - UNTRACKED == tracked


@pytest.mark.parametrize(
    "plugin", sorted((ROOT / "src/image_classifier/networks").glob("[a-z]*.py")), ids=lambda file: file.stem
)
def test_the_stages_that_use_a_network_depend_on_all_that_it_imports(plugin: Path) -> None:
    needed = {file.relative_to(ROOT).as_posix() for file in imported_files(plugin) if not is_observer(file)}
    for stage in ("lr_find", "train", "evaluate", "gradcam_report"):
        assert set(STAGES[stage]["deps"]) >= needed


@pytest.mark.parametrize(
    "plugin", sorted((ROOT / "src/image_classifier/datasets").glob("[a-z]*.py")), ids=lambda file: file.stem
)
def test_only_stage_download_depends_on_a_data_set_and_on_all_that_it_imports(plugin: Path) -> None:
    needed = {file.relative_to(ROOT).as_posix() for file in imported_files(plugin) if not is_observer(file)}
    assert set(STAGES["download"]["deps"]) >= needed
    assert not [name for name in list(STAGES)[1:] if any("/datasets/" in dep for dep in STAGES[name]["deps"])]


def test_an_observer_computes_nothing() -> None:
    for name in OBSERVERS:
        if not name.startswith(FOLLOWERS):
            libraries = {module.split(".")[0] for module in all_imported_modules(ROOT / name)}
            assert not libraries & set(COMPUTING), name


def test_a_training_gives_the_same_bytes_if_nobody_follows_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay(locations.PARAMS, {"train": {"batch_size": 8, "lr_min": 0.01, "lr_max": 0.1}}, locations.PARAMS)
    run_train()
    followed = locations.MODEL.read_bytes()
    shutil.rmtree("checkpoints")
    followers = [name for name, value in vars(train).items() if is_follower(value)]
    assert followers == ["TrainingConsole", "live_training"]
    for name in followers:
        monkeypatch.setattr(train, name, MagicMock())
    run_train()
    assert locations.MODEL.read_bytes() == followed


def is_follower(value: object) -> bool:
    path = f"src/{str(getattr(value, '__module__', '')).replace('.', '/')}.py"
    return path.startswith(FOLLOWERS)


def test_the_stages_are_the_five_of_the_design_in_order() -> None:
    assert list(STAGES) == ["download", "lr_find", "train", "evaluate", "gradcam_report"]
