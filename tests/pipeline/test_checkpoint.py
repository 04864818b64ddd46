"""Two trainings of the same at once."""

import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from image_classifier.system.errors import UserError
from image_classifier.training.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("folder")

fork = multiprocessing.get_context("fork")


def train_until_killed(key: str, training: Connection) -> None:
    with Checkpoint(key).lock():
        training.send("training")
        signal.pause()


@pytest.fixture
def other_trainer() -> Iterator[BaseProcess]:
    """Another process, which trains until it is killed."""
    here, there = fork.Pipe()
    process = fork.Process(target=train_until_killed, args=("training", there))
    process.start()
    here.recv()
    yield process
    process.kill()
    process.join()


@pytest.mark.parametrize("key", ["training", "another training"])
def test_a_second_trainer_is_refused_until_the_first_is_dead(other_trainer: BaseProcess, key: str) -> None:
    with pytest.raises(UserError, match="another process is training here"):
        Checkpoint(key).lock().__enter__()
    other_trainer.kill()
    other_trainer.join()
    with Checkpoint(key).lock():
        pass


def test_two_workspaces_do_not_train_the_same_at_once(
    other_trainer: BaseProcess, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "temporary").mkdir()
    monkeypatch.chdir(folder / "temporary")
    monkeypatch.setenv("DVC_ROOT", str(folder))
    with Checkpoint("another training").lock():
        pass
    with pytest.raises(UserError, match="another process is training here"):
        Checkpoint("training").lock().__enter__()
