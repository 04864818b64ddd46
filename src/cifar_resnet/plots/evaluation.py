"""Predictions as pictures: the confusion matrix, calibration, and the images that were misclassified."""

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifar_resnet.data import Images
from cifar_resnet.evaluation import Evaluation, calibration_bins
from cifar_resnet.plots.style import BLUE, GREY, figure

COLUMNS = 5  # of a grid of pictures


def plot_confusion(evaluation: Evaluation, path: Path) -> None:
    """Counts in a grid of true by predicted classes; the colour shows the share of the true class."""
    with figure(path, 8, 7) as drawing:
        draw_confusion(evaluation, drawing)


def draw_confusion(evaluation: Evaluation, drawing: Figure) -> None:
    """Draw the confusion matrix into a figure."""
    counts, classes = evaluation.confusion, evaluation.classes
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes = drawing.subplots()
    axes.grid(visible=False)
    # Square roots, or the mistakes would all look white beside the diagonal.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        color = "white" if np.sqrt(shares[row, column]) > 0.6 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=color, fontsize=10)
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, classes)
    axes.set(xlabel="predicted", ylabel="true", title=f"Test images by class: {evaluation.accuracy:.2%} right")


def plot_reliability(evaluation: Evaluation, num_bins: int, path: Path) -> None:
    """Accuracy over confidence; on the diagonal, probabilities mean what they say."""
    with figure(path, 5.5, 5) as drawing:
        draw_reliability(evaluation, num_bins, drawing)


def draw_reliability(evaluation: Evaluation, num_bins: int, drawing: Figure) -> None:
    """Draw the reliability diagram into a figure; the area of a dot is the share of images in its bin."""
    bins = calibration_bins(evaluation.confidence, evaluation.predicted == evaluation.labels, num_bins)
    axes = drawing.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    axes.plot(bins.confidence, bins.accuracy, color=BLUE, linewidth=1)
    axes.scatter(bins.confidence, bins.accuracy, s=20 + 600 * bins.counts / bins.counts.sum(), color=BLUE, alpha=0.7)
    axes.set(xlabel="confidence", ylabel="accuracy", title="Reliability", xlim=(0, 1.03), ylim=(0, 1.03))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="upper left")


def plot_misclassified(evaluation: Evaluation, images: Images, num_images: int, path: Path) -> None:
    """The most confident mistakes: picture, true and predicted class, probability."""
    shown = evaluation.misclassified[:num_images]
    rows = max(1, math.ceil(len(shown) / COLUMNS))
    with figure(path, 2.2 * COLUMNS, 2.55 * rows + 0.4) as drawing:
        drawing.suptitle(
            f"Misclassified test images, the most confident first ({len(evaluation.misclassified)} in all)"
        )
        grid = drawing.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, index in zip(grid, shown, strict=False):
            axes.imshow(images[index], interpolation="nearest")
            true = evaluation.classes[evaluation.labels[index]]
            predicted = evaluation.classes[evaluation.predicted[index]]
            axes.set_title(
                f"true: {true}\npredicted: {predicted} {evaluation.confidence[index]:.0%}", fontsize=10, loc="center"
            )
