"""What a network says of image files."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_resnet import layout
from cifar_resnet.errors import UserError
from cifar_resnet.image_decoding import FORMATS_IN_WORDS
from cifar_resnet.image_files import find_images, printable


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image with their probabilities, the best first."""

    path: Path
    ranked: tuple[tuple[str, float], ...]

    def as_json(self) -> dict[str, Any]:
        ranked = [{"class": name, "probability": round(value, 6)} for name, value in self.ranked]
        return {"image": str(self.path), "predictions": ranked}

    def as_cells(self) -> list[str | float]:
        """The image, then class and probability in turn."""
        return [printable(self.path), *(cell for name, value in self.ranked for cell in (name, round(value, 6)))]

    def as_row(self) -> list[str]:
        return [printable(self.path), *(f"{name} {value:.1%}" for name, value in self.ranked)]


def top_predictions(
    paths: Iterable[Path], probabilities: NDArray[np.float64], classes: tuple[str, ...], top: int
) -> list[Prediction]:
    """The `top` classes of each image, from probabilities (N, classes)."""
    best_first = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        Prediction(path, tuple((classes[number], float(row[number])) for number in best))
        for path, row, best in zip(paths, probabilities, best_first, strict=True)
    ]


def find_project_with_model() -> Path:
    """The folder of this project if it has a model, else that of the demo; which is said.

    Raises:
        UserError: neither has one.
    """
    for folder in (Path(), layout.DEMO):
        if (folder / layout.MODEL).exists():
            print(f"model: {folder / layout.MODEL}", file=sys.stderr)
            return folder
    raise UserError(
        f"{layout.MODEL} is missing, and the demo's too: `make demo` trains one in minutes, `dvc repro` the one that "
        f"{layout.PARAMS} describes; `dvc pull` fetches it"
    )


def find_all_images(paths: Iterable[Path]) -> list[Path]:
    """The given files, and the image files in the given folders and the folders in them, by name; no hidden ones.

    Raises:
        UserError: a path does not exist, or a folder cannot be listed or holds no image file.
    """
    found = []
    for path in paths:
        try:
            if path.is_dir():
                inside = find_images(path)
                if not inside:
                    raise UserError(
                        f"{printable(path)} holds no image file: give a folder with {FORMATS_IN_WORDS} files"
                    )
                found += inside
                continue
            path.lstat()
        except OSError as error:
            reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise UserError(f"{printable(path)} {reason}: give image files, or folders of them") from None
        found.append(path)
    return found
