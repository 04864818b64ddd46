"""What stages do not depend on changes nothing that they make."""

import shutil
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from support.finished_pipeline import run_train

from image_classifier.project import locations
from image_classifier.project.recipes import overlay
from pipeline import train


def test_a_training_gives_the_same_bytes_if_nobody_follows_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay(locations.PARAMS, {"train": {"batch_size": 8, "lr_min": 0.01, "lr_max": 0.1}}, locations.PARAMS)
    run_train()
    followed = locations.MODEL.read_bytes()
    shutil.rmtree("checkpoints")
    followers = [name for name, value in vars(train).items() if ".tracking." in str(getattr(value, "__module__", ""))]
    assert followers == ["TrainingConsole", "live_training"]
    for name in followers:
        monkeypatch.setattr(train, name, MagicMock())
    run_train()
    assert locations.MODEL.read_bytes() == followed
