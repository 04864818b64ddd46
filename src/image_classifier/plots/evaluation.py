"""Predictions as pictures: the confusion matrix, calibration, and the images that were misclassified."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from image_classifier.data import Images
from image_classifier.evaluation.predictions import Evaluation
from image_classifier.evaluation.unsure import risk_by_coverage
from image_classifier.plots.style import QUIET, RIGHT, WRONG, figure, percent, run_styles, short

COLUMNS = 5  # of a grid of pictures
COVERAGES = (0.25, 0.5, 0.75, 0.9, 1)  # shares of the images for which the risk is given in words
MATRIX_CLASSES = 30  # more cannot be read


def matrix_classes(mistakes: NDArray[np.int64]) -> list[int]:
    """The classes to show in a matrix: all, or if they are many, those with the most mistakes in row and column."""
    if len(mistakes) <= MATRIX_CLASSES:
        return list(range(len(mistakes)))
    most = np.argsort(-(mistakes.sum(axis=0) + mistakes.sum(axis=1)), kind="stable")[:MATRIX_CLASSES]
    return sorted(most.tolist())


def matrix_shares(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """The strength of each cell's colour, 0 to 1: from the share of the class if right, else of the biggest mistake."""
    right = np.diag(confusion.diagonal())
    shares = right / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    shares += (confusion - right) / max((confusion - right).max(), 1)
    return np.where(confusion, 0.08 + 0.62 * shares, 0)


def plot_confusion(evaluation: Evaluation, path: Path) -> None:
    """Counts in a grid of true by predicted classes, in the colours of right and wrong."""
    shown, num_classes = matrix_classes(evaluation.mistakes), len(evaluation.classes)
    cells = np.ix_(shown, shown)
    counts = evaluation.confusion[cells]
    names = [short(evaluation.classes[number]) for number in shown]
    size = 0.45 * len(shown) + 3
    with figure(path, max(size + 0.8, 6), size) as drawing:  # as wide as the title
        axes = drawing.subplots()
        axes.grid(visible=False)
        colours = np.where(np.eye(len(shown), dtype=bool)[..., np.newaxis], to_rgb(RIGHT), to_rgb(WRONG))
        axes.imshow(np.dstack([colours, matrix_shares(evaluation.confusion)[cells]]))
        fontsize = 10 if counts.max() < 1000 else 8
        for row, column in np.argwhere(counts):
            axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=fontsize)
        axes.set_xticks(range(len(shown)), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        axes.set_yticks(range(len(shown)), names, parse_math=False)
        title = f"{percent(evaluation.accuracy, 2)} of the test images right"
        if len(shown) < num_classes:
            title += f"\nThe {len(shown)} of {num_classes} classes with the most mistakes"
        axes.set(xlabel="predicted", ylabel="true", title=title)


def plot_reliability(evaluation: Evaluation, num_bins: int, path: Path) -> None:
    """Plot accuracy over confidence; on the diagonal, they are equal."""
    with figure(path, 5.5, 5) as drawing:
        draw_reliability({"": evaluation}, num_bins, drawing)


def draw_reliability(evaluations: Mapping[str, Evaluation], num_bins: int, drawing: Figure) -> None:
    """Draw the reliability diagrams of runs, by name, in one figure; a dot's area is the share of images in its bin."""

    def dot_area(share: Any) -> Any:
        return 20 + 600 * share

    axes = drawing.subplots()
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, label="perfectly calibrated")
    for (name, evaluation), style in zip(evaluations.items(), run_styles(len(evaluations)), strict=True):
        bins = evaluation.calibration(num_bins)
        axes.plot(bins.confidence, bins.accuracy, style, color=RIGHT, linewidth=1, label=short(name))
        # Not clipped at the frame: the biggest dot often lies at 100 % and 100 %.
        axes.scatter(
            bins.confidence,
            bins.accuracy,
            s=dot_area(bins.counts / bins.counts.sum()),
            alpha=0.7,
            zorder=3,
            facecolor=RIGHT if style == "-" else "none",
            edgecolor=RIGHT,
            linewidth=0 if style == "-" else 1,
            clip_on=False,
        )
    axes.scatter([], [], s=dot_area(0.1), color=RIGHT, alpha=0.7, linewidth=0, label="10% of the images")
    axes.set(xlabel="confidence", ylabel="accuracy", title="Reliability", xlim=(0, 1), ylim=(0, 1))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="best")


def describe_reliability(evaluation: Evaluation, num_bins: int) -> str:
    """The reliability diagram in words."""
    bins = evaluation.calibration(num_bins)
    return ", ".join(
        f"{count} image{'s' if count > 1 else ''} {percent(confidence, 0)} sure and {percent(accuracy, 0)} right"
        for count, confidence, accuracy in zip(bins.counts, bins.confidence, bins.accuracy, strict=True)
    )


def draw_risk(evaluation: Evaluation, answered: float | None, drawing: Figure) -> None:
    """Draw the share of wrong answers over the share of images that get one, the surest first.

    A dot marks the share `answered`, above the threshold of "unsure".
    """
    axes, (coverage, risk) = drawing.subplots(), risk_by_coverage(evaluation)
    axes.plot(coverage, risk, color=WRONG)
    if answered:
        axes.plot(answered, np.interp(answered, coverage, risk), "o", color=WRONG, label='"unsure" for the rest')
        axes.legend(loc="upper left")
    axes.set(xlabel="images answered, the surest first", ylabel="wrong answers", xlim=(0, 1), ylim=(0, None))
    axes.set(title="Risk and coverage")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))


def risks(evaluation: Evaluation) -> list[tuple[float, float]]:
    """Some points of the curve of risk and coverage: a share of the images, and that of the wrong ones among these."""
    coverage, risk = risk_by_coverage(evaluation)
    return [(share, float(np.interp(share, coverage, risk))) for share in COVERAGES]


def describe_risk(evaluation: Evaluation) -> str:
    """The curve of risk and coverage in words."""
    return ", ".join(
        f"of the surest {percent(share, 0)}, {percent(risk)} are wrong" for share, risk in risks(evaluation)
    )


def plot_misclassified(evaluation: Evaluation, images: Images, num_images: int, path: Path) -> None:
    """The most confident mistakes: picture, true and predicted class, probability."""
    shown, num_mistakes = evaluation.misclassified[:num_images], len(evaluation.misclassified)
    rows = max(1, math.ceil(len(shown) / COLUMNS))
    with figure(path, 2.2 * COLUMNS, 2.7 * rows + 0.4) as drawing:
        drawing.suptitle(
            f"Misclassified test images from left to right, the most confident first: {len(shown)} of {num_mistakes}"
        )
        grid = drawing.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, index in zip(grid, shown, strict=False):
            axes.imshow(images[index], interpolation="nearest")
            true, predicted = (
                short(evaluation.classes[one[index]], 20) for one in (evaluation.labels, evaluation.predicted)
            )
            title = f"no. {index}: {true}\ntaken for {predicted}\n{percent(evaluation.confidence[index])}"
            axes.set_title(title, fontsize=9, loc="center", parse_math=False)
