"""`python -m pipeline.drift FILE`: do the pictures that came in still look like those that the model was tested on?

FILE is what a served model wrote, told so by CLASSIFIER_LOG. Confidence, brightness and contrast are compared with
those of the test images (Kolmogorov-Smirnov), and how often each class was the answer (chi-squared).
"""

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from image_classifier.data import load_dataset
from image_classifier.evaluation.predictions import read_predictions
from image_classifier.evaluation.statistics import LEVEL, p_text
from image_classifier.project import locations
from image_classifier.project.params import DataParams
from image_classifier.sources.image_files import printable
from image_classifier.system.errors import UserError
from pipeline.stage import main

MEASURES = ("confidence", "brightness", "contrast")


def run(data: DataParams, path: Path) -> None:
    """Print each comparison and the verdict. A UserError if the file is missing, empty or has a broken line."""
    from scipy.stats import chi2_contingency, ks_2samp  # 1 s

    came_in = {name: list(chain(*values)) for name, values in read_log(path).items()}
    tested = read_predictions(locations.PREDICTIONS)
    images = np.asarray(load_dataset(locations.DATA / data.dataset).test_images, np.float32) / 255
    of_test = {
        "confidence": tested.confidence,
        "brightness": images.mean(axis=(1, 2, 3)),
        "contrast": images.std(axis=(1, 2, 3)),
    }
    p_values = {name: float(ks_2samp(of_test[name], came_in[name]).pvalue) for name in MEASURES}
    if unknown := set(came_in["class"]) - set(tested.classes):
        raise UserError(
            f"{printable(path)} has classes of another model, such as {min(unknown)}: give the log of this one"
        )
    counts = np.array(
        [
            [np.sum(tested.predicted == number), came_in["class"].count(name)]
            for number, name in enumerate(tested.classes)
        ]
    )
    p_values["class"] = float(chi2_contingency(counts[counts.any(axis=1)]).pvalue)
    for name in MEASURES:
        medians = [float(np.median(values[name])) for values in (of_test, came_in)]
        print(f"{name}: median {medians[0]:.3f} in the test images, {medians[1]:.3f} in these")
    # Of four tests, each gets a quarter of the risk (Bonferroni).
    differ = [f"{name} ({p_text(p)})" for name, p in p_values.items() if p < (1 - LEVEL) / len(p_values)]
    found = (
        f"differ from the test images by more than chance, in {', '.join(differ)}"
        if differ
        else ("look like the test images: no difference is more than chance")
    )
    print(f"The {len(came_in['class']):,} pictures that came in {found}.")


def read_log(path: Path) -> dict[str, list[list[Any]]]:
    """For each measure, and for `class`, the list of each request. A UserError as in `run`."""
    found: dict[str, list[list[Any]]] = {name: [] for name in ("class", *MEASURES)}
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            for name, values in _parse(line, f"{printable(path)}, line {number}"):
                found[name].append(values)
    except OSError as error:
        raise UserError(
            f"{printable(path)} cannot be read ({error.strerror}): give the file of CLASSIFIER_LOG"
        ) from None
    if not found["class"]:
        raise UserError(f"{printable(path)} is empty: set CLASSIFIER_LOG where the model is served, and send pictures")
    return found


def _parse(line: str, place: str) -> Iterator[tuple[str, list[Any]]]:
    try:
        request = json.loads(line)
        texts, *numbers = (list(request[name]) for name in ("class", *MEASURES))
        if not all(isinstance(text, str) for text in texts) or len({len(texts), *map(len, numbers)}) > 1:
            raise ValueError
        yield "class", texts
        yield from zip(MEASURES, (list(map(float, values)) for values in numbers), strict=True)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{place} is no record of a request: remove the line, perhaps it was cut off") from None


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.drift", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE")
    path = parser.parse_args().file
    main(lambda data: run(data, path))
