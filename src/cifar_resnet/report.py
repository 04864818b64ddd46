"""The report page: what the network gets wrong and where it looked, in one HTML file that needs no other."""

import base64
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from cifar_resnet.augment import IMAGE_SIZE_PX
from cifar_resnet.data import Images
from cifar_resnet.evaluation import Evaluation
from cifar_resnet.gradcam import Maps, heat_levels, heat_palette
from cifar_resnet.history import EpochMetrics
from cifar_resnet.plots.evaluation import draw_reliability
from cifar_resnet.plots.learning_curves import draw_learning_curves
from cifar_resnet.plots.svg import Chart, draw_class_accuracy, svg_figure, svg_panels

TEMPLATES = Path(__file__).parent / "templates"
SHEET_COLUMNS = 32  # pictures side by side in a sprite sheet
NUM_PAIRS = 10


@dataclass(frozen=True)
class Report:
    """Everything the page shows. Pictures and maps are those of the first `evaluation.misclassified`."""

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
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        evaluation = self.evaluation
        return environment.get_template("report.html.j2").render(
            dataset=self.dataset,
            classes=evaluation.classes,
            metrics=self.metrics,
            num_images=len(evaluation.labels),
            num_mistakes=len(evaluation.misclassified),
            mistakes=list(self._mistakes()),
            matrix=_matrix(evaluation.confusion),
            pairs=_confused_pairs(evaluation.confusion),
            charts=self._charts(),
            sheets=self._sheets(),
            heat_colours=_css_colours(heat_palette()),
            settings=self.settings,
            map_size_px=self.map_size_px,
            model_md5=self.model_md5,
            figures=self._figures(),
        )

    def _figures(self) -> dict[str, str]:
        """The key figures under their names, the most telling first; accuracy is the page's title."""
        metrics = self.metrics
        figures = {
            "Mean loss": f"{metrics['loss']:.4f}",
            "Among the top two": f"{metrics['top2_accuracy']:.2%}",
            "Macro F1": f"{metrics['macro_f1']:.4f}",
            "Calibration error": f"{metrics['expected_calibration_error']:.2%}",
        }
        if "flip_tta_accuracy" in metrics:
            figures["Accuracy with mirror images"] = f"{metrics['flip_tta_accuracy']:.2%}"
        return figures

    def _mistakes(self) -> Iterator[dict[str, Any]]:
        evaluation = self.evaluation
        for number, index in enumerate(evaluation.misclassified[: len(self.images)]):
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
        with svg_figure(13, 3.8) as drawing:
            draw_learning_curves(self.history, drawing)
            training = svg_panels(drawing)
        with svg_figure(5.4, 3.6) as drawing:
            draw_reliability(self.evaluation, self.calibration_bins, drawing)
            confidence = svg_panels(drawing)
        with svg_figure(5.4, 3.6) as drawing:
            draw_class_accuracy(self.evaluation, drawing)
            confidence += svg_panels(drawing)
        return {"training": training, "confidence": confidence}

    def _sheets(self) -> dict[str, Any]:
        return {
            "images": _image_sheet(self.images),
            "for_predicted": _heat_sheet(self.for_predicted),
            "for_true": _heat_sheet(self.for_true),
            "columns": SHEET_COLUMNS,
        }


def read_predictions(path: Path, classes: tuple[str, ...]) -> Evaluation:
    """Read the predictions that `evaluate` wrote."""
    numbers = {name: number for number, name in enumerate(classes)}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = np.array([numbers[row["true"]] for row in rows], dtype=np.int64)
    probabilities = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    return Evaluation(classes, labels, probabilities)


def _matrix(confusion: NDArray[np.int64]) -> list[list[dict[str, Any]]]:
    """Cells with a share in 0..1 for their colour: of the class if right, else of the most frequent mistake."""
    right = confusion.diagonal() / np.maximum(confusion.sum(axis=1), 1)
    mistakes = confusion - np.diag(confusion.diagonal())
    shares = mistakes / max(mistakes.max(), 1) + np.diag(right)
    return [
        [{"count": int(count), "share": round(float(share), 3)} for count, share in zip(*row, strict=True)]
        for row in zip(confusion, shares, strict=True)
    ]


def _confused_pairs(confusion: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The most frequent mistakes; `length` in 0..1 compares them with the first."""
    mistakes = confusion - np.diag(confusion.diagonal())
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


def _image_sheet(images: Images) -> str:
    """A sprite sheet without loss: 1.7 kB an image of CIFAR-10, where PNG takes 2.2."""
    return _data_url(Image.fromarray(_tile(images)), "webp", lossless=True)


def _heat_sheet(maps: Maps) -> str:
    """A sprite sheet whose palette is the colours of heat, clear where a map is 0."""
    sheet = Image.fromarray(_tile(heat_levels(maps)))
    palette = heat_palette()
    sheet.putpalette(palette[:, :3].tobytes())
    return _data_url(sheet, "png", optimize=True, transparency=palette[:, 3].tobytes())


def _tile(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (N, 32, 32, ...) in rows of `SHEET_COLUMNS`; at least one row, the rest of the last one is 0."""
    rows = max(1, -(-len(pictures) // SHEET_COLUMNS))
    shape = pictures.shape[1:]
    sheet = np.zeros((rows * SHEET_COLUMNS, *shape), np.uint8)
    sheet[: len(pictures)] = pictures
    sheet = sheet.reshape(rows, SHEET_COLUMNS, *shape).swapaxes(1, 2)
    return sheet.reshape(rows * IMAGE_SIZE_PX, SHEET_COLUMNS * IMAGE_SIZE_PX, *shape[2:])


def _data_url(image: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _css_colours(palette: NDArray[np.uint8]) -> list[str]:
    return [f"rgb({red} {green} {blue} / {alpha / 255:.2f})" for red, green, blue, alpha in palette.tolist()]
