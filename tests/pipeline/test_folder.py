"""Pictures of one's own through all stages."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from ruamel.yaml import YAML
from sklearn.datasets import load_digits
from support.browser import ARGUMENTS, CHROMIUM, needs_chromium
from support.finished_pipeline import run_stages
from support.pictures import picture
from support.real_repro import all_runs, dvc

from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.params import load_params
from image_classifier.project.recipes import overlay
from image_classifier.tracking.publication import publish
from pipeline.demo import RECIPE


def test_a_folder_of_real_pictures_trains_to_95_percent_and_dvc_sees_every_change(workspace: Path) -> None:
    digits = load_digits()
    random = np.random.default_rng(0)
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        image = Image.fromarray((pixels * 15.9).astype(np.uint8)).resize(
            random.integers(24, 60, 2), Image.Resampling.BICUBIC
        )
        file = Path("images", f"the digit {label}, <b>by hand & 100% so", f"{index}.{('png', 'jpg')[index % 2]}")
        file.parent.mkdir(exist_ok=True)
        image.convert(("L", "RGB")[index % 3 % 2]).save(file, quality=95)
    recipe = YAML(typ="safe", pure=True).load(RECIPE)
    overlay(locations.PARAMS, recipe | {"data": {"dataset": "folder"}}, locations.PARAMS)
    dvc("repro", "evaluate")
    assert json.loads(locations.TEST_METRICS.read_text(encoding="utf-8"))["accuracy"] > 0.95
    (run,) = all_runs(workspace)
    assert run.data.metrics["evaluate/per_class/the digit 0_ _b_by hand _ 100_ so"] > 0.9
    assert sum(name.startswith("evaluate/per_class/") for name in run.data.metrics) == 10
    assert json.loads(dvc("status", "--json", "download")) == {}
    added = picture(file.with_name("new.png"))
    assert list(json.loads(dvc("status", "--json", "download"))) == ["download"]
    added.unlink()
    assert json.loads(dvc("status", "--json", "download")) == {}


@needs_chromium
@pytest.mark.parametrize("num_classes", [2, 100])
def test_few_and_many_classes_with_names_of_40_characters_work_everywhere(num_classes: int, workspace: Path) -> None:
    digits = load_digits()
    names = sorted(f"digit {number % 10}, drawn by hand by writer no. {number:03}" for number in range(num_classes))
    assert {len(name) for name in names} == {40}
    count, batch_size = (60, 32) if num_classes == 2 else (6, 64)
    for name in names:
        digit, writer = int(name[6]), int(name[-3:]) // 10
        Path("images", name).mkdir()
        for index in np.flatnonzero(digits.target == digit)[writer * count :][:count]:
            Image.fromarray((digits.images[index] * 15.9).astype(np.uint8)).save(Path("images", name, f"{index}.png"))
    settings: dict[str, dict[str, Any]] = {
        "data": {"dataset": "folder", "image_px": 16, "test_share": 0.34},
        "model": {"width": 8},
        "lr_find": {"steps": 40, "smoothing": 0.8},
        "train": {"batch_size": batch_size, "lr_min": 0.01, "lr_max": 0.2},
    }
    overlay(locations.PARAMS, settings, locations.PARAMS)
    run_stages(load_params(locations.PARAMS))
    dvc("commit", "--force")
    publish(read_project())

    metrics = json.loads(locations.TEST_METRICS.read_text(encoding="utf-8"))
    assert list(metrics["per_class_accuracy"]) == names
    (run,) = all_runs(workspace)
    assert {f"evaluate/per_class/{name.replace(',', '_')}" for name in names} <= run.data.metrics.keys()

    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS).new_page()
        page.goto(locations.GRADCAM_PAGE.resolve().as_uri())
        expect(page.locator("h1")).to_contain_text(f"{metrics['accuracy']:.2%} right")
        assert page.locator("#true option").all_text_contents() == ["any", *names]

    command = [sys.executable, "-m", "pipeline.predict", f"images/{names[1]}", "--top", "1", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = [json.loads(line)["predictions"][0]["class"] for line in done.stdout.splitlines()]
    assert len(answers) == count
    assert set(answers) <= set(names)
    mlflow.set_tracking_uri(f"sqlite:///{workspace}/mlruns/mlflow.db")
    served = mlflow.pyfunc.load_model("models:/cifar10-resnet@champion")
    (ranked,) = served.predict([base64.b64encode(Path("images", name, f"{index}.png").read_bytes()).decode()])
    assert sorted(answer["class"] for answer in ranked) == names
