"""How good predictions are."""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Evaluation:
    """Predictions for labelled images, and the figures that follow from them."""

    classes: tuple[str, ...]
    labels: NDArray[np.int64]  # (N,)
    probabilities: NDArray[np.float64]  # (N, classes)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether each prediction is the true class (N,)."""
        return np.asarray(self.predicted == self.labels)

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of the predicted class (N,)."""
        return np.asarray(self.probabilities.max(axis=1))

    @cached_property
    def true_probability(self) -> NDArray[np.float64]:
        """Probability of the true class (N,)."""
        return self.probabilities[np.arange(len(self.labels)), self.labels]

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Counts (classes, classes): rows true, columns predicted."""
        count = len(self.classes)
        return np.bincount(self.labels * count + self.predicted, minlength=count**2).reshape(count, count)

    @cached_property
    def mistakes(self) -> NDArray[np.int64]:
        """The counts off the diagonal of the confusion matrix (classes, classes); the diagonal is 0."""
        return self.confusion * (1 - np.eye(len(self.classes), dtype=np.int64))

    @cached_property
    def class_accuracy(self) -> NDArray[np.float64]:
        """Share of each class that is right (classes,); 0 for a class without images."""
        return np.asarray(self.confusion.diagonal() / np.maximum(self.confusion.sum(axis=1), 1))

    @cached_property
    def misclassified(self) -> NDArray[np.int64]:
        """Indices of the wrong predictions, the most confident first."""
        wrong = np.flatnonzero(~self.right)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")]

    def worst_of_each_cell(self, num_images: int) -> NDArray[np.int64]:
        """At most `num_images` of `misclassified`, in its order: the first ones of each cell of the confusion matrix.

        Each cell gives the same number, or all of its images if it has fewer.
        """
        wrong = self.misclassified
        return first_of_each(wrong, self.labels[wrong] * len(self.classes) + self.predicted[wrong], num_images)

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    def calibration(self, num_bins: int) -> "Calibration":
        """Predictions grouped by confidence; a bin includes its upper edge, as in Guo et al. 2017, arXiv:1706.04599."""
        numbers = np.clip(np.ceil(self.confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
        counts = np.bincount(numbers, minlength=num_bins)
        filled = counts > 0
        confidence, accuracy = (
            np.bincount(numbers, weights=x, minlength=num_bins)[filled] / counts[filled]
            for x in (self.confidence, self.right)
        )
        return Calibration(counts[filled], confidence, accuracy)

    def metrics(self, calibration_bins: int) -> dict[str, float | dict[str, float]]:
        """Figures as fractions of 1; `loss` is the mean cross-entropy. With two classes, top-2 accuracy is left out."""
        f1 = 2 * self.confusion.diagonal() / np.maximum(self.confusion.sum(axis=0) + self.confusion.sum(axis=1), 1)
        better = (self.probabilities > self.true_probability[:, np.newaxis]).sum(axis=1)
        top2 = {"top2_accuracy": float((better < 2).mean())} if len(self.classes) > 2 else {}
        return {
            "accuracy": self.accuracy,
            "loss": float(-np.log(np.maximum(self.true_probability, np.finfo(np.float64).tiny)).mean()),
            **top2,
            "macro_f1": float(f1.mean()),
            "expected_calibration_error": self.calibration(calibration_bins).error,
            "per_class_accuracy": dict(zip(self.classes, self.class_accuracy.tolist(), strict=True)),
        }


@dataclass(frozen=True)
class Calibration:
    """Predictions grouped by confidence, in bins of equal width; empty bins are left out."""

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]  # mean in each bin
    accuracy: NDArray[np.float64]  # mean in each bin

    @property
    def error(self) -> float:
        """Mean gap between confidence and accuracy over bins, weighted by size."""
        return float((self.counts * np.abs(self.confidence - self.accuracy)).sum() / self.counts.sum())


def first_of_each(images: NDArray[np.int64], groups: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """At most `number` of `images`, in their order: the same number from each group, or all if it has fewer."""
    by_group = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[by_group], return_index=True, return_counts=True)
    rank = np.empty_like(images)  # 0 for the first of its group
    rank[by_group] = np.arange(len(images)) - np.repeat(starts, sizes)
    return images[np.sort(np.argsort(rank, kind="stable")[:number])]


def largest_cells(matrix: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Row and column of the ten largest cells above 0, the largest first."""
    rows, columns = np.unravel_index(np.argsort(-matrix, axis=None, kind="stable")[:10], matrix.shape)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if matrix[row, column]]


def read_predictions(path: Path) -> Evaluation:
    """Read the predictions that stage `evaluate` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classes = tuple(name[2:] for name in rows[0] if name.startswith("p_"))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[row["true"]] for row in rows], dtype=np.int64)
    probabilities = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    return Evaluation(classes, labels, probabilities)
