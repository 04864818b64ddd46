"""`python -m benchmarks.recipe`: short trainings that compare the learning-rate rules and the parts of the recipe.

To be called after `dvc repro lr_find`. Each variant changes one thing in params.yaml, whose cycle is scaled to a few
epochs of a network of a quarter of the width. It trains from three seeds, and is judged by 5,000 training images that
are held out, never by the test set. Each training is a run in the MLflow experiment `…-recipe`; the figures also go to
ladder.csv beside this file, after each training: one that stands there is not repeated.
"""

import csv
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any

from benchmarks.trainings import Changes, changed, train
from benchmarks.workspace import PROJECT
from image_classifier.data import load_dataset
from image_classifier.model.compute import prepare_compute
from image_classifier.outputs.history import EpochMetrics
from image_classifier.outputs.rates import read_found_rates
from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.params import Params, load_params
from image_classifier.project.settings import flat
from image_classifier.system.errors import UserError
from image_classifier.tracking.provenance import code_tags, machine_tags
from image_classifier.tracking.results import epoch_values
from image_classifier.tracking.runs import FAILED, FINISHED, create_run, log_values
from image_classifier.tracking.store import open_store

SEEDS, EPOCHS, WIDTH, JUDGED_BY = (0, 1, 2), 3, 16, 5_000
RESULTS = PROJECT / "benchmarks" / "ladder.csv"
COLUMNS = ("variant", "seed", "lr_max", "epoch", "train_loss", "validation_accuracy")

# Beside the variants for each rule that suggests lr_max.
PARTS: dict[str, Changes] = {
    "padding_mode reflect": {"augment": {"padding_mode": "reflect"}},
    "flip alternate": {"augment": {"flip": "alternate"}},
    "cutout 0": {"augment": {"cutout": 0}},
    "label_smoothing 0.1": {"train": {"label_smoothing": 0.1}},
    "label_smoothing 0.2": {"train": {"label_smoothing": 0.2}},
    "padding 2": {"augment": {"padding": 2}},
    "ghost_batch 32": {"train": {"ghost_batch": 32}},
    "ghost_batch 32, lr_max 0.48": {"train": {"ghost_batch": 32, "lr_max": 0.48}},
    "weight_decay 0.002": {"train": {"weight_decay": 0.002}},
    "optimizer muon": {"train": {"optimizer": "muon"}},
    "early_epochs 2": {"train": {"early_epochs": 2}},
    "weight_decay 0": {"train": {"weight_decay": 0.0}},
    "logit_scale 1": {"model": {"logit_scale": 1.0}},
}


def main() -> None:
    """Train every variant and write the accuracy of each epoch."""
    params = load_params(locations.PARAMS)
    dataset = load_dataset(locations.DATA / params.data.dataset)
    compute = prepare_compute(params.compute)
    finished = {(row["variant"], row["seed"]) for row in read_rows()}
    for seed, (name, changes) in product(SEEDS, variants(params).items()):
        if (name, str(seed)) in finished:
            continue
        varied = with_changes(params, {**changes, "train": {**changes["train"], "seed": seed}})
        rows = []
        for metrics in follow(f"{name}-seed{seed}", varied, train(varied, dataset, compute, num_workers=0)):
            figures = (metrics.train_loss, metrics.held_out_accuracy)
            rows.append([name, seed, f"{varied.train.lr_max:.4g}", metrics.epoch, *(f"{x:.4f}" for x in figures)])
            print(f"{name}, seed {seed}: epoch {metrics.epoch}, {metrics.held_out_accuracy:.2%}", flush=True)
        with RESULTS.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def read_rows() -> list[dict[str, str]]:
    """What was measured already; makes the file if there is none."""
    if not RESULTS.exists():
        RESULTS.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    with RESULTS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def variants(params: Params) -> dict[str, Changes]:
    """What each variant changes: one for each rule's suggestion, and one for each part of the recipe."""
    found = read_found_rates(locations.LR_FOUND)
    base: dict[str, Any] = {
        "epochs": EPOCHS,
        "peak_epoch": EPOCHS * params.train.peak_epoch / params.train.epochs,
        "lr_min": found.lr_min,
        "lr_max": found.lr_max,
    }
    rates = {rule: rate for rule, rate in found.suggestions.items() if rate > found.lr_min}
    rules: dict[str, Changes] = {rule: {"train": {**base, "lr_max": rate}} for rule, rate in rates.items()}
    parts: dict[str, Changes] = {
        name: {**changes, "train": {**base, **changes.get("train", {})}} for name, changes in PARTS.items()
    }
    return rules | parts


def with_changes(params: Params, changes: Changes) -> Params:
    """The settings with some changed, and checked again."""
    start: Changes = {
        "data": {"validation_images": JUDGED_BY},
        "model": {"width": WIDTH},
        "augment": {"padding_mode": "mean", "flip": True},  # the ladder starts without these parts
    }
    return changed(params, start, changes)


def follow(name: str, params: Params, epochs: Iterator[EpochMetrics]) -> Iterator[EpochMetrics]:
    """Log a training to an MLflow run of its own; one that diverges ends as failed."""
    store = open_store(f"{params.runtime.experiment}-recipe")
    tags = {**code_tags(read_project()), **machine_tags(params.compute.device)}
    settings = flat(params.model_dump(mode="json", exclude={"runtime"}))
    run = create_run(store, settings, name, tags)
    status = FAILED
    try:
        for metrics in epochs:
            log_values(store, run, epoch_values(metrics))
            yield metrics
        status = FINISHED
    except UserError as error:
        print(f"{name}: {error}")
    finally:
        store.client.set_terminated(run.info.run_id, status)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
