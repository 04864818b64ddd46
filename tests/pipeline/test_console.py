"""The progress of a training in a terminal and in a log."""

import os
import pty
import re
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import torch
from support.project import make_digits

from image_classifier.model.compute import prepare_compute
from image_classifier.outputs.history import EpochMetrics
from image_classifier.project.params import Params
from image_classifier.tracking.console import TrainingConsole
from image_classifier.training.loop import LearningRates, Trainer

NUM_STEPS = 3
METRICS = EpochMetrics(1, 0.1, 1.5, 0.75, 0.12345, 0.875, "test")


@pytest.fixture
def show_an_epoch(tiny_params: Params) -> Callable[..., None]:
    """A function that shows an epoch of three steps, with 6 of 8 images right; some steps may be done already."""
    compute = prepare_compute(tiny_params.compute)
    trainer = Trainer(tiny_params.train, LearningRates(0.01, 0.1), compute)
    state = trainer.start(make_digits(0), tiny_params.model, seed=0)

    def show(steps_done: int, step_seconds: float = 0) -> None:
        shown = TrainingConsole(state, num_held_out=16)
        for state.step in range(steps_done + 1, NUM_STEPS + 1):
            time.sleep(step_seconds)
            state.totals += torch.tensor([4.0, 6, 8])
            shown.after_step(torch.tensor(0.5), NUM_STEPS)
        shown.after_epoch(METRICS)

    return show


@pytest.mark.parametrize("steps_done", [0, 1])
def test_a_log_file_gets_plain_lines(
    show_an_epoch: Callable[..., None], steps_done: int, capsys: pytest.CaptureFixture[str]
) -> None:
    show_an_epoch(steps_done)
    epoch, result, test_set, empty = capsys.readouterr().out.splitlines()
    assert epoch == "EPOCH: 1"
    assert re.fullmatch(r"Loss=0\.5000 Batch_id=2 Accuracy=75\.00: 3/3 \[00:00<00:00, *\d+\.\d\dit/s\]", result)
    assert test_set == "Test set: Average loss: 0.1235, Accuracy: 14/16 (87.50%)"
    assert empty == ""


def test_a_terminal_gets_a_bar_that_grows(show_an_epoch: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    with os.fdopen(terminal, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        show_an_epoch(0, step_seconds=0.11)
    shown = b"".join(read_all(ours)).decode()
    assert shown.startswith("EPOCH: 1\r\n")
    assert re.search(r"\rLoss=0\.5000 Batch_id=2 Accuracy=75\.00: 100%\|█+\| 3/3 \[", shown)
    assert "Batch_id=1 Accuracy=75.00:  67%" in shown
    assert shown.endswith("Test set: Average loss: 0.1235, Accuracy: 14/16 (87.50%)\r\n\r\n")


def read_all(terminal: int) -> Iterator[bytes]:
    """All that was written to a terminal; reading fails at the end, since the other side is closed."""
    with suppress(OSError):
        while True:
            yield os.read(terminal, 10_000)
    os.close(terminal)
