"""The report page: what the network gets wrong and where it looked, in one HTML file that needs no other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from image_classifier.data import Images
from image_classifier.evaluation.predictions import Evaluation, largest_cells
from image_classifier.outputs.history import EpochMetrics
from image_classifier.plots.evaluation import matrix_classes, matrix_shares
from image_classifier.report.gradcam import Maps
from image_classifier.report.pages import heat_sheet, image_sheet, render_page, sheet_columns
from image_classifier.report.svg import class_accuracy_charts, reliability_charts, risk_charts, training_charts


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
    images: Images  # (M, image_px, image_px, 3)
    for_predicted: Maps  # (M, image_px, image_px)
    for_true: Maps  # (M, image_px, image_px)

    def render(self) -> str:
        """The page as HTML. The same report gives the same bytes."""
        evaluation, classes, mistakes = self.evaluation, self.evaluation.classes, self.evaluation.mistakes
        shown = evaluation.worst_of_each_cell(len(self.images))
        probabilities = (evaluation.confidence.round(9), evaluation.true_probability.round(9))
        of_shown = [each[shown].tolist() for each in (evaluation.labels, evaluation.predicted, *probabilities)]
        return render_page(
            "report.html.j2",
            **vars(self),
            classes=classes,
            image_px=self.images.shape[1],
            columns=sheet_columns(len(self.images)),
            num_mistakes=len(evaluation.misclassified),
            mistakes=list(zip(shown.tolist(), *of_shown, strict=True)),
            counts=[
                ({"true": classes[true], "predicted": classes[predicted]}, int(mistakes[true, predicted]))
                for true, predicted in np.argwhere(mistakes)
            ],
            matrix_classes=matrix_classes(mistakes),
            confusion=evaluation.confusion.tolist(),
            shares=matrix_shares(evaluation.confusion).round(3).tolist(),
            pairs=confused_pairs(evaluation),
            training=training_charts({"": self.history}),
            confidence=[
                *reliability_charts({"": evaluation}, self.calibration_bins),
                *risk_charts(evaluation, self.metrics.get("unsure", {}).get("answered")),
                *class_accuracy_charts(evaluation),
            ],
            sheets={
                "images": image_sheet(self.images),
                "for_predicted": heat_sheet(self.for_predicted),
                "for_true": heat_sheet(self.for_true),
            },
        )


def confused_pairs(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The most frequent mistakes, with their share of the true class."""
    confusion = evaluation.confusion
    return [
        {
            "true": true,
            "predicted": predicted,
            "count": int(confusion[true, predicted]),
            "share": float(confusion[true, predicted] / confusion[true].sum()),
        }
        for true, predicted in largest_cells(evaluation.mistakes)
    ]
