"""What all commands have in common: errors in the wrong folder, the help, and output that nobody reads."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from support.finished_pipeline import run
from support.project import PROJECT

from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.params import ResNet18Params, load_params, read_settings
from image_classifier.project.recipes import as_options, overlay
from image_classifier.project.settings import flat
from image_classifier.system.errors import UserError
from pipeline.recipe import run as run_recipe

CHECK = [sys.executable, "-m", "pipeline.check"]


def test_output_that_nobody_reads_ends_a_command_in_silence(workspace: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*CHECK, "--write-schema"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")  # 128 + SIGPIPE, as shells report it


def test_letters_that_the_output_cannot_show_are_escaped(tiny_params_file: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", "from pipeline.stage import main; main(lambda: print('é'))"]
    done = subprocess.run(command, cwd=tiny_params_file.parent, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\\xe9\n", "")


def test_a_folder_that_is_not_the_projects_is_named(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(CHECK, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {tmp_path} is not this project's folder: change to the one with params.yaml first\n"
    )


COMMANDS = sorted(file.stem for file in (PROJECT / "pipeline").glob("*.py") if "__main__" in file.read_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_helps_and_starts_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, f"pipeline.{name}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"pipeline.{name}", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m pipeline.{name}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "count"), [("search", "0"), ("seeds", "0"), ("seeds", "many")])
def test_a_group_has_one_member_or_more(name: str, count: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"pipeline.{name}", count, "train.seed=0..9"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: argument N: {count}; allowed: 1 or more\n")


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("", "recipes/mine.yaml must hold sections as in params.yaml"),
        ("train: 12", "recipes/mine.yaml must hold sections as in params.yaml"),
        ("trian: {epochs: 12}", "params.yaml with the recipe: trian is not a setting"),
        ("train: {epoch: 12}", "params.yaml with the recipe: train.epoch is not a setting"),
        (
            "train: {epochs: many}",
            "params.yaml with the recipe: train.epochs is 'many'; allowed: a whole number",
        ),
    ],
)
def test_a_mistake_in_a_recipe_is_named_before_anything_starts(
    tiny_params_file: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, reason: str
) -> None:
    monkeypatch.chdir(tiny_params_file.parent)
    Path("recipes").mkdir()
    Path("recipes", "mine.yaml").write_text(recipe)
    with pytest.raises(UserError, match=reason):
        run_recipe("mine")


@pytest.mark.parametrize(
    "value", ["Blüten 花 😀", "off", "1e3", "null", "a, b", "'a' = \"b\"", "", 1e-05, 0.1, True, None, ["ü", "1"]]
)
def test_dvc_reads_a_setting_of_a_recipe_as_the_recipe_has_it(
    tiny_params_file: Path, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    monkeypatch.chdir(tiny_params_file.parent)
    shutil.copy(PROJECT / "dvc.yaml", ".")
    _, option = as_options({"data.folder": value}, read_project())
    apply_overrides(str(tiny_params_file), [option])
    assert read_settings(tiny_params_file)["data"]["folder"] == value


def test_a_recipe_may_choose_another_network(tiny_params_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_params_file.parent)
    shutil.copy(PROJECT / "dvc.yaml", ".")
    recipe: dict[str, dict[str, object]] = {
        "model": {"network": "resnet18", "zero_init_residual": True},
        "gradcam": {"layer": "layer4"},
    }
    project = read_project(recipe)
    apply_overrides(str(tiny_params_file), as_options(flat(recipe), project)[1::2])
    assert load_params(tiny_params_file) == project.params
    assert project.params.model == ResNet18Params(network="resnet18", zero_init_residual=True)


def test_dvc_deletes_outputs_before_a_value_is_refused_and_checkout_restores_them(workspace: Path) -> None:
    """DVC deletes a stage's outputs before it starts the stage, so before the stage can refuse a value."""
    run("dvc", "repro", "download", cwd=workspace)
    made = sorted(path.name for path in Path("data/digits").iterdir())
    overlay(locations.PARAMS, {"data": {"split_seed": -1}}, locations.PARAMS)
    done = subprocess.run([sys.executable, "-m", "dvc", "repro", "download"], capture_output=True, text=True)
    assert "error: params.yaml: data.split_seed is -1; allowed: " in done.stderr
    assert not Path("data/digits").exists()
    run("dvc", "checkout", "download", cwd=workspace)
    assert sorted(path.name for path in Path("data/digits").iterdir()) == made


def test_windows_without_wsl_is_refused_in_one_line(workspace: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.platform = 'win32'; import pipeline.check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: this project runs on Linux and macOS; on Windows, use it in WSL 2")
