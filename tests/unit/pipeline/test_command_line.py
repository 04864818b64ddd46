"""What all commands have in common: errors in the wrong folder, the help, and output that nobody reads."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from support.project import PROJECT

from image_classifier.project.definition import read_project
from image_classifier.project.params import ResNet18Params, load_params, read_settings
from image_classifier.project.recipes import as_options
from image_classifier.project.settings import flat
from image_classifier.system.errors import UserError
from pipeline.recipe import run as run_recipe

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
        run_recipe("mine", folder=None)


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
