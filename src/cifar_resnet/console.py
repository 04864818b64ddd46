"""What the console shows of long work: a bar on a terminal, or a plain line every 30 seconds in a log file."""

import sys
import time
from collections.abc import Iterable
from typing import Never, TypeVar

from torch import Tensor
from tqdm import tqdm

from cifar_resnet.history import EpochMetrics
from cifar_resnet.training import TrainingState

LINE_SECONDS = 30
LINE = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"

Item = TypeVar("Item")


class LogLines(tqdm):  # type: ignore[type-arg]
    """tqdm for a file: plain lines, `mininterval` seconds apart."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None:  # tqdm passes "" to wipe out its bar
            print(self, flush=True)


def progress(items: Iterable[Item], total: int, description: str, first: int = 0) -> "tqdm[Item]":
    """Pass the items on, and show how many of `total` have come; the rate counts from item `first`."""
    if sys.stdout.isatty():
        return tqdm(items, description, total, initial=first, file=sys.stdout)
    return LogLines(
        items, description, total, initial=first, mininterval=LINE_SECONDS, delay=LINE_SECONDS, miniters=1, smoothing=0,
        bar_format=LINE, leave=False,
    )  # fmt: skip


class TrainingConsole:
    """Prints, for each epoch, the lines of the assignment's training log."""

    def __init__(self, state: TrainingState, num_held_out: int) -> None:
        self._state = state
        self._num_held_out = num_held_out
        self._bar: tqdm[Never] | None = None  # of the epoch
        self._change: str | None = None

    def after_step(self, loss: Tensor, num_steps: int) -> None:
        """Show the loss, the batch number and the running accuracy."""
        step = self._state.step
        if self._bar is None:
            print(f"EPOCH: {self._state.epoch + 1}", flush=True)
            self._bar = progress((), num_steps, "", first=step - 1)
        # Reading the loss makes a GPU wait, so it is read no more often than it is shown.
        if step == num_steps or time.time() - self._bar.last_print_t >= self._bar.mininterval:
            _, num_correct, num_images = self._state.totals.tolist()
            accuracy = f"Accuracy={100 * num_correct / num_images:.2f}"
            self._bar.set_description_str(f"Loss={loss.item():.4f} Batch_id={step - 1} {accuracy}", refresh=False)
        if step < num_steps:
            self._bar.update()
        else:
            self._bar.n = step
            self._bar.refresh()
            self._bar.close()
            self._bar = None

    def after_epoch(self, metrics: EpochMetrics) -> None:
        """Print loss and accuracy on the held-out images."""
        num_correct = round(metrics.held_out_accuracy * self._num_held_out)
        print(
            f"{metrics.held_out_name.capitalize()} set: Average loss: {metrics.held_out_loss:.4f}, Accuracy: "
            f"{num_correct}/{self._num_held_out} ({100 * metrics.held_out_accuracy:.2f}%)\n",
            flush=True,
        )

    def warn_of_change(self, change: str | None) -> None:
        """Print, once for each change, that an input of the training has changed since the start."""
        if change and change != self._change:
            print(f"changed while the training runs: {change}. The training continues with what it read. "
                  "Its result can be recorded if the change is undone before the last epoch ends.\n",
                  flush=True)  # fmt: skip
        self._change = change
