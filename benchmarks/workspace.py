"""Folders to run stages in: a few images in the form that stage `download` leaves, and settings to match."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from image_classifier.data import Dataset, load_dataset, save_dataset
from image_classifier.outputs.rates import FoundRates
from image_classifier.project import locations
from image_classifier.project.definition import DEFINITION
from image_classifier.project.params import load_params
from image_classifier.project.recipes import overlay
from image_classifier.sources.making import make_dataset

PROJECT = Path(__file__).resolve().parent.parent
PEERS = PROJECT / "build" / "peers"  # where the Makefile installs requirements.txt
FIRST_SOURCE = "CIFAR10_SOURCE"
Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Size:
    """How much a training has to do: `steps` full batches an epoch; test images a fifth of that, as in CIFAR-10."""

    batch_size: int
    width: int
    steps: int
    epochs: int

    @property
    def num_images(self) -> int:
        return self.steps * self.batch_size


def find_images() -> tuple[str, Dataset]:
    """CIFAR-10 if it is at hand, or random images of its shape, which cost the same; and which of the two."""
    here = PROJECT / locations.DATA / "cifar10"
    if here.exists():
        return "CIFAR-10", load_dataset(here)
    if os.environ.get(FIRST_SOURCE):
        return "CIFAR-10", make_dataset(load_params(PROJECT / locations.PARAMS).data)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12_000, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, len(images))
    half = (0.5, 0.5, 0.5)  # mean and standard deviation
    classes = tuple("0123456789")
    return "random images", Dataset("cifar10", classes, half, half, images, labels, images[:2_000], labels[:2_000])


def make_workspace(folder: Path, dataset: Dataset, size: Size, settings: Settings) -> Path:
    """Make `folder` ready for stage `train`, with these settings on top of the project's own."""
    few = replace(
        dataset,
        train_images=dataset.train_images[: size.num_images],
        train_labels=dataset.train_labels[: size.num_images],
        test_images=dataset.test_images[: size.num_images // 5],
        test_labels=dataset.test_labels[: size.num_images // 5],
    )
    assert len(few.train_labels) == size.num_images
    save_dataset(few, folder / locations.DATA / "cifar10")
    (folder / ".dvc").mkdir()  # a project of its own: its checkpoints go with it, so the next round does not continue
    (folder / locations.LR_FOUND).parent.mkdir(parents=True)
    FoundRates(0.01, 0.1, "given", {}).write_json(folder / locations.LR_FOUND)
    train = {"epochs": size.epochs, "peak_epoch": size.epochs / 2, "batch_size": size.batch_size}
    changes = {"data": {"dataset": "cifar10", "validation_images": 0}, "train": train, "model": {"width": size.width}}
    shutil.copy(PROJECT / DEFINITION, folder)
    overlay(PROJECT / locations.PARAMS, {**changes, **settings}, folder / locations.PARAMS)  # type: ignore[dict-item]
    return folder


def environment(mlflow: Path) -> dict[str, str]:
    """The environment of everything that is timed: this Python and its project, the peers, an MLflow store apart."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DVC_ROOT", FIRST_SOURCE)}
    return {
        **kept,
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{mlflow.resolve()}",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(map(str, [PROJECT, PROJECT / "src", PEERS])),
    }
