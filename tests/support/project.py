"""The project under test, and settings with which it takes seconds."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from image_classifier.data import Dataset
from image_classifier.project.params import load_params
from image_classifier.project.store_location import follow_move
from image_classifier.sources.making import make_dataset

MakeOnce = Callable[[str, Callable[[Path], object]], Path]  # the fixture `make_once`

PROJECT = Path(__file__).resolve().parent.parent.parent

TINY: dict[str, dict[str, object]] = {
    "data": {"dataset": "digits"},
    "augment": {"padding": 2, "padding_mode": "mean", "flip": False, "cutout": 4},
    "model": {"width": 4},
    "lr_find": {"steps": 20},
    "train": {
        "epochs": 2,
        "peak_epoch": 0.5,
        "batch_size": 128,
        "label_smoothing": 0.0,
        "optimizer": "sgd",
        "early_epochs": 0,
    },
    "evaluate": {"grid_images": 4},
    "gradcam": {"images": 6, "grid_images": 4},
    "compute": {"device": "cpu", "precision": "fp32", "compile": "off", "threads": 1},
    "runtime": {"workers": 0},
}


def make_digits(seed: int) -> Dataset:
    """The data set `digits`, with this seed of its test split."""
    data = load_params(PROJECT / "params.yaml").data
    return make_dataset(data.model_copy(update={"dataset": "digits", "split_seed": seed}))


def copy_project(original: Path, folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Fill `folder` with a copy of a project, and make it the working directory."""
    shutil.copytree(original, folder, dirs_exist_ok=True)
    enter(folder, patch)
    follow_move()
    return folder


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make `folder` the working directory, and unset variables that lead to other projects."""
    patch.chdir(folder)
    for variable in (
        "CIFAR10_SOURCE",
        "DVC_EXP_BASELINE_REV",
        "DVC_EXP_NAME",
        "DVC_ROOT",
        "MLFLOW_TRACKING_URI",
        "PYTHONPATH",
    ):
        patch.delenv(variable, raising=False)
