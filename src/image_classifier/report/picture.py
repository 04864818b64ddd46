"""The most confident mistakes beside the Grad-CAM maps for the predicted and for the true class."""

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import SubFigure
from numpy.typing import NDArray

from image_classifier.data import Images
from image_classifier.evaluation.predictions import Evaluation
from image_classifier.plots.style import figure, percent, short
from image_classifier.report.gradcam import heat_palette


def plot_gradcam(
    evaluation: Evaluation,
    shown: NDArray[np.int64],
    images: Images,
    for_predicted: Images,
    for_true: Images,
    title: str,
    path: Path,
) -> None:
    """Rows of image, overlay for predicted and overlay for true class (N, height, width, 3) of the mistakes `shown`."""
    columns = 2 if len(images) > 1 else 1
    rows = max(1, math.ceil(len(images) / columns))
    with figure(path, 6.2 * columns, 2.45 * rows + 1) as drawing:
        drawing.suptitle(title if len(images) else "No mistakes: every test image was classified correctly")
        above, below = drawing.subfigures(2, 1, squeeze=False, height_ratios=(2.45 * rows, 0.5)).flat
        halves = [half.subplots(rows, 3, squeeze=False) for half in above.subfigures(1, columns, squeeze=False).flat]
        grid = np.concatenate(halves, axis=1).ravel()
        for axes in grid:
            axes.axis("off")
        for number, index in enumerate(shown):
            true = short(evaluation.classes[evaluation.labels[index]])
            predicted = short(evaluation.classes[evaluation.predicted[index]])
            panels = (
                (images, f"test image {index}, true:\n{true}"),
                (for_predicted, f"for predicted, {percent(evaluation.confidence[index])}:\n{predicted}"),
                (for_true, f"for true, {percent(evaluation.true_probability[index])}:\n{true}"),
            )
            for axes, (pictures, label) in zip(grid[3 * number :], panels, strict=False):
                axes.imshow(pictures[number], interpolation="nearest")
                axes.set_title(label, fontsize=10, parse_math=False)
        _draw_scale(below)


def _draw_scale(drawing: SubFigure) -> None:
    """The colours of heat from little to much evidence, on an image's middle grey."""
    axes = drawing.add_axes((0.4, 0.45, 0.2, 0.3))
    heat = heat_palette()[np.newaxis]
    axes.imshow(np.full_like(heat, (136, 136, 136, 255)), aspect="auto")
    axes.imshow(heat, aspect="auto")
    axes.axis("off")
    for x, side, text in ((-0.02, "right", "little"), (1.02, "left", "much evidence; each map has its own scale")):
        axes.text(x, 0.5, text, ha=side, va="center", transform=axes.transAxes, fontsize=10)
