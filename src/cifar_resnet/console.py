"""What the console shows of a training: a bar for each epoch on a terminal, plain lines in a log file."""

import sys
import time
from typing import Never

from torch import Tensor
from tqdm import tqdm

from cifar_resnet.history import EpochMetrics
from cifar_resnet.training import TrainingState

REFRESH_SECONDS = 0.1


class TrainingConsole:
    """Prints, for each epoch, the lines of the assignment's training log."""

    def __init__(self, state: TrainingState, num_held_out: int) -> None:
        self._state = state
        self._num_held_out = num_held_out
        self._bar: tqdm[Never] = tqdm(disable=True)
        self._started = 0.0
        self._first_step = 0
        self._next_step = -1  # of no epoch yet

    def after_step(self, loss: Tensor, num_steps: int) -> None:
        """Show the loss, the batch number and the running accuracy."""
        step = self._state.step
        if step != self._next_step:
            print(f"EPOCH: {self._state.epoch + 1}", flush=True)
            self._bar = tqdm(total=num_steps, initial=step - 1, disable=None, file=sys.stdout)
            self._first_step, self._started = step - 1, time.monotonic()
        self._next_step = step + 1
        # Reading the loss makes a GPU wait, so it is read no more often than the bar is drawn.
        if not self._bar.disable and (step == num_steps or time.monotonic() - self._bar.last_print_t > REFRESH_SECONDS):
            self._bar.set_description(self._describe(loss), refresh=False)
        self._bar.update()
        if step == num_steps:
            self._end_bar(loss, num_steps)

    def _end_bar(self, loss: Tensor, num_steps: int) -> None:
        self._next_step = -1
        self._bar.close()
        if self._bar.disable:  # the output is no terminal
            seconds = time.monotonic() - self._started
            pace = seconds / (num_steps - self._first_step)
            elapsed = tqdm.format_interval(seconds)
            print(f"{self._describe(loss)}: {num_steps}/{num_steps} [{elapsed}, {pace:.2f}s/it]", flush=True)

    def after_epoch(self, metrics: EpochMetrics) -> None:
        """Show how the held-out images fared."""
        num_correct = round(metrics.held_out_accuracy * self._num_held_out)
        print(
            f"{metrics.held_out_name.capitalize()} set: Average loss: {metrics.held_out_loss:.4f}, Accuracy: "
            f"{num_correct}/{self._num_held_out} ({100 * metrics.held_out_accuracy:.2f}%)\n",
            flush=True,
        )

    def _describe(self, loss: Tensor) -> str:
        _, num_correct, num_images = self._state.totals.tolist()
        return f"Loss={loss.item():.4f} Batch_id={self._state.step - 1} Accuracy={100 * num_correct / num_images:.2f}"
