"""`dvc.yaml` and the rooms against the code: a missing dependency would leave stale results in DVC's cache."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.project import PROJECT

LIBRARY = PROJECT / "src" / "image_classifier"
SETTINGS = YAML(typ="safe", pure=True).load(PROJECT / "params.yaml")


def setting(match: re.Match[str]) -> str:
    section, name = match[1].split(".")
    return str(SETTINGS[section][name])


RESOLVED = re.sub(r"\$\{([\w.]+)\}", setting, (PROJECT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES = YAML(typ="safe", pure=True).load(RESOLVED)["stages"]
UNTRACKED = {"runtime", "project", "inputs"}  # never change a result
# A room may import from the rooms in the lines before it.
LEVELS = (
    {"system", "evaluation"},
    {"data.py", "project", "outputs"},
    {"sources", "model", "plots"},
    {"datasets", "networks", "training", "report"},
    {"export", "serving", "tracking"},
    {"compare"},
)
OBSERVERS = {"system", "project", "tracking"}  # no stage depends on these rooms
CHOSEN = {"datasets", "networks"}  # of these rooms, a stage depends on one file
COMPUTING = {"albumentations", "cv2", "numpy", "pandas", "PIL", "scipy", "sklearn", "timm", "torch", "torchvision"}


def room_of(file: Path) -> str:
    return file.relative_to(LIBRARY).parts[0]


def files_of(room: str) -> list[Path]:
    return [LIBRARY / room] if room.endswith(".py") else sorted((LIBRARY / room).rglob("*.py"))


def imported_modules(file: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "imports are absolute"
            assert not node.level, "imports are absolute"
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def imported_files(file: Path) -> set[Path]:
    """The library's own files that a file imports."""
    paths = {LIBRARY.parent.joinpath(*module.split(".")) for module in imported_modules(file)}
    return {path.with_suffix(".py") for path in paths if path.with_suffix(".py").is_file()}


def rooms_behind(files: Iterable[Path]) -> set[str]:
    """The rooms that files import, and those that these rooms import as a whole; nothing is behind an observer."""
    found: set[str] = set()
    waiting = list(files)
    while waiting:
        for imported in imported_files(waiting.pop()):
            room = room_of(imported)
            if room not in found | OBSERVERS | CHOSEN:
                found.add(room)
                waiting += files_of(room)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_rooms_that_can_change_its_outputs_and_on_no_others(stage: str) -> None:
    entry = PROJECT / "pipeline" / f"{stage}.py"
    needed = rooms_behind([entry])
    plugins = {
        "sources": f"datasets/{SETTINGS['data']['dataset']}.py",
        "model": f"networks/{SETTINGS['model']['network']}.py",
    }
    needed |= {plugins[room] for room in needed & plugins.keys()}
    code = {f"src/image_classifier/{room}" for room in needed} | {f"pipeline/{stage}.py"}
    assert {dep for dep in STAGES[stage]["deps"] if dep.startswith(("pipeline/", "src/"))} == code


@pytest.mark.parametrize("room", sorted(CHOSEN))
def test_the_stages_that_use_a_chosen_file_depend_on_all_that_any_such_file_imports(room: str) -> None:
    behind = {f"src/image_classifier/{other}" for other in rooms_behind(files_of(room))}
    users = [entry["deps"] for entry in STAGES.values() if any(f"/{room}/" in dep for dep in entry["deps"])]
    assert all(behind <= set(deps) for deps in users)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_takes_the_sections_of_params_that_dvc_tracks_for_it(stage: str) -> None:
    run = importlib.import_module(f"pipeline.{stage}").run
    tracked = {key.split(".")[0] for key in STAGES[stage]["params"]}
    assert set(inspect.signature(run).parameters) - UNTRACKED == tracked


def test_rooms_import_only_from_rooms_below_them() -> None:
    rooms = {room_of(file) for file in LIBRARY.rglob("*.py")} - {"__init__.py"}
    assert rooms == set().union(*LEVELS)
    below: set[str] = set()
    for level in LEVELS:
        for room in level:
            imported = {room_of(other) for file in files_of(room) for other in imported_files(file)}
            assert imported <= below | {room}, room
        below |= level


def test_every_room_says_what_it_is_for_and_imports_nothing_to_do_so() -> None:
    for init in LIBRARY.rglob("__init__.py"):
        tree = ast.parse(init.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree)
        if init.parent.name != "tracking":  # which sets MLflow's variables
            assert len(tree.body) == 1, init


def test_rooms_that_values_pass_through_compute_nothing() -> None:
    for file in [*files_of("system"), *files_of("project")]:
        assert not COMPUTING & {module.split(".")[0] for module in imported_modules(file)}, file


def test_the_stages_are_the_six_of_the_design_in_order() -> None:
    assert list(STAGES) == ["download", "lr_find", "train", "evaluate", "gradcam_report"]
