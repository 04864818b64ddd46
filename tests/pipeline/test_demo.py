"""`make demo`: all stages on embedded data, beside the project and not in it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from ruamel.yaml import YAML
from support.project import PROJECT, make_digits

from image_classifier.project.params import load_params
from image_classifier.project.recipes import overlay
from image_classifier.sources.image_files import read_image


def test_the_recipe_changes_what_it_names_and_keeps_the_rest_and_the_comments(tmp_path: Path) -> None:
    recipe = YAML(typ="safe", pure=True).load(PROJECT / "recipes" / "digits.yaml")
    overlay(PROJECT / "params.yaml", recipe, tmp_path / "params.yaml")
    before, after = (load_params(folder / "params.yaml").model_dump() for folder in (PROJECT, tmp_path))
    for section, settings in before.items():
        assert after[section] == {**settings, **recipe.get(section, {})}
    assert "# channels after the first layer" in (tmp_path / "params.yaml").read_text(encoding="utf-8")


def test_the_demo_says_what_came_out_and_leaves_the_project_as_it_was(workspace: Path, finished_project: Path) -> None:
    """Its results come from DVC's cache; the README's first block, in test_docs.py, runs its stages."""
    use_recipe(workspace, epochs=2)
    before = git_status()
    folder = workspace / "build" / "demo"
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=folder, check=True)
    shutil.copytree(finished_project / ".dvc" / "cache", folder / ".dvc" / "cache", dirs_exist_ok=True)

    first = demo()
    assert first.returncode == 0, first.stderr
    assert "WARNING" not in first.stdout + first.stderr
    assert git_status() == before
    assert not [name for name in ("dvc.lock", "data", "models", "reports") if (workspace / name).exists()]
    reports = folder / "reports"
    accuracy = json.loads((reports / "evaluate" / "metrics.json").read_text())["accuracy"]
    assert f"Test accuracy  {accuracy:.2%}" in first.stdout
    assert "Report         build/demo/reports/gradcam/index.html" in first.stdout
    assert (reports / "gradcam" / "index.html").exists()
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("demo")
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    assert [run.data.metrics["evaluate/accuracy"] for run in runs] == [accuracy]

    second = demo()
    assert "Data and pipelines are up to date." in second.stdout
    assert second.stdout.splitlines()[-7:] == first.stdout.splitlines()[-7:]


def test_the_shipped_picture_is_a_test_image_of_the_demo() -> None:
    digits = make_digits(seed=0)
    shipped = read_image(PROJECT / "docs" / "digit.png", 32).astype(int)
    differences = [np.abs(image - shipped).mean() for image in digits.test_images]
    nearest = int(np.argmin(differences))
    assert differences[nearest] < 2
    assert digits.classes[digits.test_labels[nearest]] == "4"
    assert np.abs(digits.train_images - shipped).mean(axis=(1, 2, 3)).min() > 5


def test_a_recipe_that_breaks_a_rule_is_refused_before_any_work(workspace: Path) -> None:
    use_recipe(workspace, epochs=0)
    result = demo()
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: build/demo/params.yaml: train.epochs is 0; allowed: a whole number from 1")


def use_recipe(workspace: Path, epochs: int) -> None:
    """A recipe that keeps the workspace's tiny settings."""
    recipe = {"data": {"dataset": "digits"}, "train": {"epochs": epochs}, "runtime": {"experiment": "demo"}}
    YAML().dump(recipe, workspace / "recipes" / "digits.yaml")


def demo() -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "pipeline.demo"], capture_output=True, text=True)


def git_status() -> str:
    return subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
