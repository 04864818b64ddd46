"""What each epoch of a training measured, and the file that keeps it."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from image_classifier.system.files import replacing


@dataclass(frozen=True)
class EpochMetrics:
    """Means over one epoch. Losses are cross-entropies per image, accuracies fractions of 1."""

    epoch: int  # from 1
    lr: float  # of the last step
    # Of augmented images (smaller ones in early epochs), with label smoothing, while the weights change.
    train_loss: float
    train_accuracy: float
    held_out_loss: float
    held_out_accuracy: float
    held_out_name: str  # "test" or "validation": which images were held out

    def as_row(self) -> dict[str, float]:
        fields = {name: value for name, value in vars(self).items() if name != "held_out_name"}
        return {name.replace("held_out", self.held_out_name): value for name, value in fields.items()}


def write_history(path: Path, history: Iterable[EpochMetrics]) -> None:
    """Write one row per epoch, under a header."""
    rows = [metrics.as_row() for metrics in history]
    with replacing(path) as new, new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_history(path: Path) -> list[EpochMetrics]:
    """Read what `write_history` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    held_out = "validation" if "validation_loss" in rows[0] else "test"
    return [
        EpochMetrics(
            epoch=int(row["epoch"]),
            lr=float(row["lr"]),
            train_loss=float(row["train_loss"]),
            train_accuracy=float(row["train_accuracy"]),
            held_out_loss=float(row[f"{held_out}_loss"]),
            held_out_accuracy=float(row[f"{held_out}_accuracy"]),
            held_out_name=held_out,
        )
        for row in rows
    ]
