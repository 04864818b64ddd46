"""The most confident mistakes beside what spoke for the predicted and for the true class."""

import math
from pathlib import Path

import numpy as np

from cifar_resnet.data import Images
from cifar_resnet.evaluation import Evaluation
from cifar_resnet.plots.style import figure


def plot_gradcam(
    evaluation: Evaluation, images: Images, for_predicted: Images, for_true: Images, title: str, path: Path
) -> None:
    """Rows of image, overlay for the predicted and overlay for the true class; (N, 32, 32, 3), the worst mistakes."""
    columns = 2 if len(images) > 1 else 1
    rows = max(1, math.ceil(len(images) / columns))
    with figure(path, 6.2 * columns, 2.45 * rows + 0.6) as drawing:
        drawing.suptitle(title if len(images) else "No mistakes: every test image was classified correctly")
        halves = [half.subplots(rows, 3, squeeze=False) for half in drawing.subfigures(1, columns, squeeze=False).flat]
        grid = np.concatenate(halves, axis=1).ravel()
        for axes in grid:
            axes.axis("off")
        for number, index in enumerate(evaluation.misclassified[: len(images)]):
            true = evaluation.classes[evaluation.labels[index]]
            predicted = evaluation.classes[evaluation.predicted[index]]
            panels = (
                (images, f"test image {index}\ntrue: {true}"),
                (for_predicted, f"for predicted\n{predicted} {evaluation.confidence[index]:.1%}"),
                (for_true, f"for true\n{true} {evaluation.true_probability[index]:.1%}"),
            )
            for axes, (pictures, label) in zip(grid[3 * number :], panels, strict=False):
                axes.imshow(pictures[number], interpolation="nearest")
                axes.set_title(label, fontsize=10, parse_math=False)
