"""What a trained network says of images, and where it looked."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from image_classifier.data import Images
from image_classifier.model.compute import Compute, prepare_compute
from image_classifier.model.inference import predict_logits, softmax
from image_classifier.model.model_file import TrainedModel, load_model
from image_classifier.project import locations
from image_classifier.project.hashing import file_md5
from image_classifier.project.params import ComputeParams, GradCAMParams
from image_classifier.system.errors import UserError

Ranked = list[tuple[str, float]]  # classes with their probabilities, the best first


@dataclass(frozen=True)
class Predictor:
    """A trained model, and the folder of its project."""

    folder: Path
    model: TrainedModel
    compute: Compute
    unsure_up_to: float | None  # confidence at which stage `evaluate` found too many answers wrong; None: never unsure

    def probabilities(self, images: Images) -> NDArray[np.float64]:
        """Probabilities (N, classes) for images uint8 (N, image_px, image_px, 3)."""
        return softmax(predict_logits(self.model.net, images, self.compute))

    def best(self, probabilities: NDArray[np.float64], top: int) -> list[Ranked]:
        """The `top` most probable classes of each image."""
        best_first = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        return [
            [(self.model.classes[number], float(row[number])) for number in numbers]
            for row, numbers in zip(probabilities, best_first, strict=True)
        ]

    def is_unsure(self, ranked: Ranked) -> bool | None:
        """Whether the best class is only a guess; None if no threshold is known."""
        return None if self.unsure_up_to is None else ranked[0][1] <= self.unsure_up_to

    def explain(
        self, images: Images, probabilities: NDArray[np.float64], gradcam: GradCAMParams, opacity: float = 1.0
    ) -> Images:
        """The images, each under a map of the evidence for its most probable class."""
        from image_classifier.report.gradcam import activation_maps, overlay  # takes 2 s

        maps = activation_maps(self.model.net, images, probabilities.argmax(axis=1), gradcam)
        return overlay(images, maps, opacity)


def model_folder() -> Path:
    """The project with a model: this one, or else the demo; a UserError if neither has one."""
    for folder in (Path(), locations.DEMO):
        if (folder / locations.MODEL).exists():
            return folder
    raise UserError(
        f"{locations.MODEL} is missing, and the demo's too: `make demo` trains one in minutes, `dvc repro` what "
        f"{locations.PARAMS} describes; `dvc pull` fetches it"
    )


def load_predictor(compute: ComputeParams) -> Predictor:
    """Load this project's model, or else the demo's, and print which; in the precision of stage `evaluate`.

    A UserError if neither has a model, or it cannot be used.
    """
    folder = model_folder()
    print(f"model: {folder / locations.MODEL}", file=sys.stderr)
    in_full = prepare_compute(compute.model_copy(update={"precision": "fp32"}))
    model = load_model(folder / locations.MODEL)
    in_full.place(model.net)
    return Predictor(folder, model, in_full, read_threshold(folder))


def read_threshold(folder: Path) -> float | None:
    """The confidence up to which a project's model is unsure; None if stage `evaluate` did not look, or not at it."""
    try:
        evaluated = json.loads((folder / locations.INPUTS / "evaluate.json").read_text(encoding="utf-8"))
        metrics = json.loads((folder / locations.TEST_METRICS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if evaluated["files"].get(locations.MODEL.as_posix()) != file_md5(folder / locations.MODEL):
        return None
    threshold: float | None = metrics.get("unsure", {}).get("threshold")
    return threshold
