"""`python -m benchmarks.screen`: what brings recipe fast94 further? On a GPU, 32 trainings vary ten settings.

Each setting has two levels, the recipe's and another. The design is orthogonal, so each effect is measured by all
trainings (fractional factorial, 2^(10-5), resolution IV;
https://www.itl.nist.gov/div898/handbook/pri/section3/pri3347.htm). Each training has a seed of its own and is judged by
5,000 training images that are held out, never by the test set. The figures go to screen.csv beside this file.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
from scipy.stats import t

from benchmarks.many_seeds import SIDE_BY_SIDE, rates, sweep, train_all, write_rows
from benchmarks.trainings import Changes, changed
from benchmarks.workspace import PROJECT
from image_classifier.evaluation.statistics import LEVEL, Interval
from image_classifier.project import locations
from image_classifier.project.params import Params, load_params
from image_classifier.project.recipes import read_recipe

RESULTS = PROJECT / "benchmarks" / "screen.csv"
RECIPE, JUDGED_BY, FIRST_SEED, PROCESSES = "fast94", 5_000, 100, 3

START: Changes = {  # the recipe as it was then; some of the other levels are in it now
    "augment": {"padding": 4},
    "train": {"peak_epoch": 2, "weight_decay": 5e-4, "ghost_batch": 0},
}
FACTORS: dict[str, Changes] = {  # what the other level changes
    "label_smoothing": {"train": {"label_smoothing": 0.1}},
    "cutout": {"augment": {"cutout": 8}},
    "padding": {"augment": {"padding": 2}},
    "peak_epoch": {"train": {"peak_epoch": 3}},
    "momentum": {"train": {"momentum": 0.8}},
    "weight_decay": {"train": {"weight_decay": 0.002}},
    "ema_decay": {},  # removed since then, as it gained nothing; an empty column keeps the design
    "epochs": {"train": {"epochs": 13, "early_epochs": 8}},
    "lr_min": {"train": {"lr_min": 0.001}},
    "lr_max": {"train": {"lr_max": 0.15}},
}


def design() -> list[list[int]]:
    """One row for each training: -1 where a factor has the recipe's level, 1 where it has the other."""
    rows = product((-1, 1), repeat=5)
    return [[*row, *(prod(row) * level for level in row)] for row in rows]  # the others: products of four of the first


def trainings() -> Iterator[Params]:
    """The settings of each training, in the order of the design."""
    base = changed(load_params(locations.PARAMS), SIDE_BY_SIDE, read_recipe(RECIPE), START)
    base = changed(base, {"train": rates(sweep(base)), "data": {"validation_images": JUDGED_BY}})
    for number, levels in enumerate(design()):
        taken = [changes for level, changes in zip(levels, FACTORS.values(), strict=True) if level > 0]
        yield changed(base, {"train": {"seed": FIRST_SEED + number}}, *taken)


def effects(rows: Sequence[Mapping[str, str]]) -> dict[str, tuple[float, Interval]]:
    """What each factor's other level adds, in percentage points, by least squares over the trainings in `rows`."""
    levels = np.array([[1.0, *(float(row[name]) for name in FACTORS)] for row in rows])
    accuracies = np.array([100 * float(row["validation_accuracy"]) for row in rows])
    found, squares, *_ = np.linalg.lstsq(levels, accuracies)
    freedom = len(rows) - levels.shape[1]
    errors = np.sqrt(squares[0] / freedom * np.diag(np.linalg.inv(levels.T @ levels)))
    half = errors * t.ppf((1 + LEVEL) / 2, freedom)
    return {
        name: (2 * effect, Interval(2 * (effect - margin), 2 * (effect + margin)))
        for name, effect, margin in zip(FACTORS, found[1:], half[1:], strict=True)
    }


def main(results: Path) -> None:
    """Train, write what came of each training, and print the effects."""
    settings = list(trainings())
    of_all = zip(settings, design(), train_all(settings, PROCESSES), strict=True)
    write_rows(
        results,
        (
            [{"seed": params.train.seed, **dict(zip(FACTORS, levels, strict=True)), **rows[-1]}]
            for params, levels, rows in of_all
        ),
    )
    with results.open(encoding="utf-8", newline="") as file:
        for name, (effect, interval) in effects(list(csv.DictReader(file))).items():
            print(f"{name:16} {effect:+.2f}, {LEVEL:.0%} interval {interval:+.2f}")


if __name__ == "__main__":
    main(RESULTS)
