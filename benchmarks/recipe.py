"""`python -m benchmarks.recipe`: short trainings that compare the learning-rate rules and the parts of the recipe.

To be called after `dvc repro lr_find`. Each variant trains on the same 10,000 images, on the cycle of params.yaml
scaled to a few epochs, and is judged by 5,000 other training images, never by the test set. Each is a run in the MLflow
experiment `…-recipe`; the figures also go to recipe.csv beside this file. n = 1, so small differences may be noise.
"""

import csv
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.workspace import PROJECT
from cifar_resnet import layout
from cifar_resnet.compute import Compute, prepare_compute
from cifar_resnet.data import Dataset, load_dataset, split_validation
from cifar_resnet.errors import UserError
from cifar_resnet.history import EpochMetrics
from cifar_resnet.lr_range import read_found_rates
from cifar_resnet.params import Params, load_params
from cifar_resnet.project import flat, read_project
from cifar_resnet.tracking.provenance import code_tags, machine_tags
from cifar_resnet.tracking.results import epoch_values
from cifar_resnet.tracking.runs import FAILED, FINISHED, create_run, log_values
from cifar_resnet.tracking.store import open_store
from cifar_resnet.training import LearningRates, Trainer, TrainingData, make_training_data

TRAINED_ON, JUDGED_BY = 10_000, 5_000  # images
EPOCHS = 3
RESULTS = PROJECT / "benchmarks" / "recipe.csv"
Changes = Mapping[str, Mapping[str, Any]]

# Beside the variants for each rule that suggests lr_max.
PARTS: dict[str, Changes] = {
    "label_smoothing 0.1": {"train": {"label_smoothing": 0.1}},
    "ema_decay 0.95": {"train": {"ema_decay": 0.95}},
    "weight_decay 0": {"train": {"weight_decay": 0.0}},
    "logit_scale 1": {"model": {"logit_scale": 1.0}},
    "no CutOut": {"augment": {"cutout": 0}},
}


def main() -> None:
    """Train every variant and write the accuracy of each epoch."""
    params = load_params(layout.PARAMS)
    dataset = load_dataset(layout.DATA / params.data.dataset)
    compute = prepare_compute(params.compute)
    rows = []
    for name, changes in variants(params).items():
        varied = with_changes(params, changes)
        for metrics in follow(name, varied, train(varied, dataset, compute)):
            figures = (metrics.train_loss, metrics.train_accuracy, metrics.held_out_accuracy)
            rows.append([name, f"{varied.train.lr_max:.4g}", metrics.epoch, *(f"{x:.4f}" for x in figures)])
            print(f"{name}: epoch {metrics.epoch}, validation accuracy {metrics.held_out_accuracy:.2%}", flush=True)
    with RESULTS.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["variant", "lr_max", "epoch", "train_loss", "train_accuracy", "validation_accuracy"])
        table.writerows(rows)


def variants(params: Params) -> dict[str, Changes]:
    """What each variant changes: one for each rule's suggestion, and one for each part of the recipe."""
    found = read_found_rates(layout.LR_FOUND)
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
    content = params.model_dump()
    for section, settings in changes.items():
        content[section].update(settings)
    return Params.model_validate(content)


def train(params: Params, dataset: Dataset, compute: Compute) -> Iterator[EpochMetrics]:
    """Train on the subset; yields after each epoch."""
    rates = LearningRates(float(params.train.lr_min), float(params.train.lr_max))
    trainer = Trainer(params.train, rates, compute)
    state = trainer.start(dataset, params.model, params.train.seed)
    return trainer.epochs(state, subset(params, dataset), lambda loss, num_steps: None)


def subset(params: Params, dataset: Dataset) -> TrainingData:
    """The images to train on and others to judge by, both stratified."""
    whole = make_training_data(dataset, params.data, params.augment)
    rest, held_out = split_validation(whole.labels, JUDGED_BY, params.data.split_seed)
    _, picked = split_validation(whole.labels[rest], TRAINED_ON, params.data.split_seed)
    kept = rest[picked]
    return TrainingData(
        whole.images[kept], whole.labels[kept], whole.augment, whole.images[held_out], whole.labels[held_out],
        "validation",
    )  # fmt: skip


def follow(name: str, params: Params, epochs: Iterator[EpochMetrics]) -> Iterator[EpochMetrics]:
    """Log a training to an MLflow run of its own; one that diverges ends as failed."""
    store = open_store(f"{params.runtime.experiment}-recipe")
    tags = {**code_tags(read_project()), **machine_tags(params.compute.device), "trained_on": str(TRAINED_ON)}
    settings = flat(params.model_dump(mode="json", exclude={"runtime": True, "data": {"sources"}}))
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
