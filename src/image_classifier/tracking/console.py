"""Prints the lines of the training log."""

import time
from typing import Never

from torch import Tensor
from tqdm import tqdm

from image_classifier.outputs.history import EpochMetrics
from image_classifier.system.progress import progress
from image_classifier.training.loop import TrainingState


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
            print(
                f"changed while the training runs: {change}. The training continues with what it read. "
                "Its result can be recorded if the change is undone before the last epoch ends.\n",
                flush=True,
            )
        self._change = change
