"""Stage `lr_find`: an LR range test on the training set, and the learning rates it suggests."""

from collections.abc import Iterator
from itertools import count

from torch import Tensor

from image_classifier.data import Dataset, load_dataset
from image_classifier.model.compute import Compute, prepare_compute
from image_classifier.outputs.rates import LRSweep, NoRatesError
from image_classifier.project import locations
from image_classifier.project.params import (
    AugmentParams,
    ComputeParams,
    DataParams,
    LRFindParams,
    ModelParams,
    TrainParams,
)
from image_classifier.system.files import write_json
from image_classifier.system.progress import progress
from image_classifier.training.batches import EpochBatches
from image_classifier.training.loop import LearningRates, Trainer, TrainingData, make_training_data, require_workable
from image_classifier.training.lr_range import find_rates, sweep
from image_classifier.training.optimizers import set_learning_rate
from pipeline.stage import main


def run(
    data: DataParams,
    augment: AugmentParams,
    model: ModelParams,
    lr_find: LRFindParams,
    train: TrainParams,
    compute: ComputeParams,
) -> None:
    """Write the sweep and the suggestions; stage evaluate draws them, so a new plot needs no new sweep."""
    resolved = prepare_compute(compute)
    dataset = load_dataset(locations.DATA / data.dataset)
    training_data = make_training_data(dataset, data, augment)
    require_workable(train, augment, training_data)
    print(f"LR range test on {resolved}")
    measured = run_sweep(dataset, training_data, model, lr_find, train, resolved)
    measured.write_csv(locations.LR_CURVE)
    try:
        found = find_rates(measured, lr_find.rule)
        found.write_json(locations.LR_FOUND)
        print(f"found lr_min {found.lr_min:.4g} and lr_max {found.lr_max:.4g} ({found.rule})")
    except NoRatesError as reason:  # no error here, or this stage would run again; stage train knows if it needs rates
        write_json(locations.LR_FOUND, {"not_found": str(reason)})
        print(f"found no learning rates: {reason}")


def run_sweep(
    dataset: Dataset,
    data: TrainingData,
    model: ModelParams,
    lr_find: LRFindParams,
    train: TrainParams,
    compute: Compute,
) -> LRSweep:
    """Train a new network, made from the sweep's own seed, for a few steps at a rising learning rate."""
    trainer = Trainer(train, LearningRates(lr_find.start_lr, lr_find.end_lr), compute)
    state = trainer.start(dataset, model, lr_find.seed)
    state.net.train()
    batches = _endless_batches(data, train.batch_size, lr_find.seed)

    def step(lr: float) -> float:
        images, labels = next(batches)
        set_learning_rate(state.optimizers, lr)
        return trainer.step(state, images, labels, len(labels)).item()

    points = progress(sweep(step, lr_find), lr_find.steps, "LR range test")
    return LRSweep(*zip(*points, strict=True))


def _endless_batches(data: TrainingData, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch after another, without short last batches: their loss is noisier but counts the same."""
    for epoch in count():
        batches = EpochBatches(data.images, data.labels, data.augment, batch_size, seed, epoch)
        loaded = batches.load(first=0, num_workers=0, pin_memory=False)
        yield from (batch for batch in loaded if len(batch[1]) >= min(batch_size, len(data.labels)))


if __name__ == "__main__":
    main(run, __doc__)
