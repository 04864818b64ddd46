"""The report page: what the network gets wrong and where it looked, in one HTML file that needs no other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cifar_resnet.data import Images
from cifar_resnet.evaluation import Evaluation
from cifar_resnet.gradcam import Maps
from cifar_resnet.history import EpochMetrics
from cifar_resnet.pages import SHEET_COLUMNS, heat_sheet, image_sheet, make_environment
from cifar_resnet.plots.evaluation import matrix_classes, matrix_shares
from cifar_resnet.plots.style import percent
from cifar_resnet.plots.svg import (
    NUM_BARS,
    Chart,
    describe_class_accuracy,
    draw_class_accuracy,
    reliability_charts,
    svg_figure,
    svg_panels,
    training_charts,
)

NUM_PAIRS = 10


@dataclass(frozen=True)
class Report:
    """Everything the page shows. Pictures and maps are those of `evaluation.worst_of_each_cell`."""

    dataset: str
    evaluation: Evaluation
    metrics: Mapping[str, Any]  # of the test set
    history: Sequence[EpochMetrics]
    settings: Mapping[str, Mapping[str, Any]]  # section: key: value
    calibration_bins: int
    map_size_px: int  # of the layer's own map
    model_md5: str
    images: Images  # (M, 32, 32, 3)
    for_predicted: Maps  # (M, 32, 32)
    for_true: Maps  # (M, 32, 32)

    def render(self) -> str:
        """The page as HTML. The same report gives the same bytes."""
        evaluation = self.evaluation
        return (
            make_environment()
            .get_template("report.html.j2")
            .render(
                dataset=self.dataset,
                classes=evaluation.classes,
                metrics=self.metrics,
                num_images=len(evaluation.labels),
                num_mistakes=len(evaluation.misclassified),
                mistakes=list(self._mistakes()),
                matrix=_matrix(evaluation),
                counts=_counts(evaluation),
                pairs=confused_pairs(evaluation),
                charts=self._charts(),
                sheets=self._sheets(),
                settings=self.settings,
                map_size_px=self.map_size_px,
                image_px=self.images.shape[1],
                model_md5=self.model_md5,
                figures=self._figures(),
            )
        )

    def _figures(self) -> dict[str, str]:
        """The key figures under their names, the most telling first; accuracy is the page's title."""
        metrics = self.metrics
        figures = {
            "Mean loss": f"{metrics['loss']:.4f}",
            "Macro F1": f"{metrics['macro_f1']:.4f}",
            "Calibration error": percent(metrics["expected_calibration_error"], 2),
        }
        for name, key in (("Among the top two", "top2_accuracy"), ("Accuracy with mirror images", "flip_tta_accuracy")):
            if key in metrics:
                figures[name] = percent(metrics[key], 2)
        return figures

    def _mistakes(self) -> Iterator[dict[str, Any]]:
        evaluation = self.evaluation
        for number, index in enumerate(evaluation.worst_of_each_cell(len(self.images))):
            row, column = divmod(number, SHEET_COLUMNS)
            yield {
                "index": int(index),
                "true": int(evaluation.labels[index]),
                "predicted": int(evaluation.predicted[index]),
                "confidence": round(float(evaluation.confidence[index]), 9),
                "true_probability": round(float(evaluation.true_probability[index]), 9),
                "row": row,
                "column": column,
            }

    def _charts(self) -> dict[str, list[Chart]]:
        confidence = reliability_charts({"": self.evaluation}, self.calibration_bins)
        num_bars = min(NUM_BARS, len(self.evaluation.classes))
        with svg_figure(5.4, max(3.6, 0.9 + 0.27 * num_bars)) as drawing:
            draw_class_accuracy(self.evaluation, drawing)
            confidence += svg_panels(drawing, [describe_class_accuracy(self.evaluation)])
        return {"training": training_charts({"": self.history}), "confidence": confidence}

    def _sheets(self) -> dict[str, Any]:
        return {
            "images": image_sheet(self.images),
            "for_predicted": heat_sheet(self.for_predicted),
            "for_true": heat_sheet(self.for_true),
        }


def _matrix(evaluation: Evaluation) -> dict[str, Any]:
    """The classes to show, and for each two classes the count and the strength of its colour."""
    return {
        "classes": matrix_classes(evaluation.mistakes),
        "counts": evaluation.confusion.tolist(),
        "shares": matrix_shares(evaluation.confusion).round(3).tolist(),
    }


def _counts(evaluation: Evaluation) -> list[tuple[dict[str, str], int]]:
    """Every kind of mistake, and its number of images."""
    classes, mistakes = evaluation.classes, evaluation.mistakes
    return [
        ({"true": classes[true], "predicted": classes[predicted]}, int(mistakes[true, predicted]))
        for true, predicted in np.argwhere(mistakes)
    ]


def confused_pairs(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The most frequent mistakes; `length` in 0..1 compares them with the first."""
    confusion, mistakes = evaluation.confusion, evaluation.mistakes
    order = np.argsort(-mistakes, axis=None, kind="stable")[:NUM_PAIRS]
    pairs = [
        (int(true), int(predicted)) for true, predicted in zip(*np.unravel_index(order, mistakes.shape), strict=True)
    ]
    return [
        {
            "true": true,
            "predicted": predicted,
            "count": int(mistakes[true, predicted]),
            "share": float(mistakes[true, predicted] / confusion[true].sum()),
            "length": round(float(mistakes[true, predicted] / mistakes.max()), 3),
        }
        for true, predicted in pairs
        if mistakes[true, predicted]
    ]
