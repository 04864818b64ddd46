"""What the console shows of long work: a bar on a terminal, now and then a plain line in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Never, TypeVar

from torch import Tensor
from tqdm import tqdm

from cifar_resnet.history import EpochMetrics
from cifar_resnet.training import TrainingState

REFRESH_SECONDS = 0.1
LINE_SECONDS = 30

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Pass the items on, showing how many of `total` have come."""
    if sys.stdout.isatty():
        yield from tqdm(items, total=total, desc=description, file=sys.stdout)
        return
    started = printed = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - printed >= LINE_SECONDS:
            printed = time.monotonic()
            print(f"{description}: {meter(number, total, printed - started)}", flush=True)


def meter(number: int, total: int, seconds: float, first: int = 0) -> str:
    """What a bar shows beside itself: `13/98 [01:30<09:48, 6.92s/it]`; time and rate are those since `first`."""
    shown = "{n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
    return str(tqdm.format_meter(number, total, seconds, initial=first, bar_format=shown))


class TrainingConsole:
    """Prints, for each epoch, the lines of the assignment's training log."""

    def __init__(self, state: TrainingState, num_held_out: int) -> None:
        self._state = state
        self._num_held_out = num_held_out
        self._bar: tqdm[Never] = tqdm(disable=True)
        self._started = 0.0
        self._printed = 0.0
        self._first_step = 0
        self._next_step = -1  # of no epoch yet
        self._change: str | None = None

    def after_step(self, loss: Tensor, num_steps: int) -> None:
        """Show the loss, the batch number and the running accuracy."""
        step = self._state.step
        if step != self._next_step:
            print(f"EPOCH: {self._state.epoch + 1}", flush=True)
            self._bar = tqdm(total=num_steps, initial=step - 1, disable=None, file=sys.stdout)
            self._first_step, self._started = step - 1, time.monotonic()
            self._printed = self._started
        self._next_step = step + 1
        # Reading the loss makes a GPU wait, so it is read no more often than the bar is drawn.
        if not self._bar.disable and (step == num_steps or time.monotonic() - self._bar.last_print_t > REFRESH_SECONDS):
            self._bar.set_description(self._describe(loss), refresh=False)
        self._bar.update()
        if step == num_steps:
            self._end_bar(loss, num_steps)
        elif self._bar.disable and time.monotonic() - self._printed >= LINE_SECONDS:  # the output is no terminal
            self._print_line(loss, num_steps)

    def _end_bar(self, loss: Tensor, num_steps: int) -> None:
        self._next_step = -1
        self._bar.close()
        if self._bar.disable:
            self._print_line(loss, num_steps)

    def _print_line(self, loss: Tensor, num_steps: int) -> None:
        self._printed = time.monotonic()
        done = meter(self._state.step, num_steps, self._printed - self._started, self._first_step)
        print(f"{self._describe(loss)}: {done}", flush=True)

    def after_epoch(self, metrics: EpochMetrics) -> None:
        """Show how the held-out images fared."""
        num_correct = round(metrics.held_out_accuracy * self._num_held_out)
        print(
            f"{metrics.held_out_name.capitalize()} set: Average loss: {metrics.held_out_loss:.4f}, Accuracy: "
            f"{num_correct}/{self._num_held_out} ({100 * metrics.held_out_accuracy:.2f}%)\n",
            flush=True,
        )

    def warn_of_change(self, change: str | None) -> None:
        """Say, once for each change, that an input of the training is not what it was at the start."""
        if change and change != self._change:
            print(f"changed while the training runs: {change}. It continues with what it read. Its result can be "
                  "recorded if the change is undone before the last epoch ends.\n", flush=True)  # fmt: skip
        self._change = change

    def _describe(self, loss: Tensor) -> str:
        _, num_correct, num_images = self._state.totals.tolist()
        return f"Loss={loss.item():.4f} Batch_id={self._state.step - 1} Accuracy={100 * num_correct / num_images:.2f}"
