"""Trainings without the stages: settings changed in code, and the epochs of one training."""

from collections.abc import Iterator, Mapping
from typing import Any

from image_classifier.data import Dataset
from image_classifier.model.compute import Compute
from image_classifier.outputs.history import EpochMetrics
from image_classifier.project.params import Params
from image_classifier.project.settings import overlaid
from image_classifier.training.loop import LearningRates, Trainer, make_training_data

Changes = Mapping[str, Mapping[str, Any]]  # settings by section


def changed(params: Params, *changes: Changes) -> Params:
    """The settings with some changed, one after the other, and checked again."""
    content = params.model_dump()
    for sections in changes:
        content = overlaid(content, sections)
    return Params.model_validate(content)


def train(params: Params, dataset: Dataset, compute: Compute, num_workers: int) -> Iterator[EpochMetrics]:
    """Train with the seed in `params`, whose learning rates are numbers; yields after each epoch."""
    rates = LearningRates(float(params.train.lr_min), float(params.train.lr_max))
    trainer = Trainer(params.train, rates, compute, num_workers)
    state = trainer.start(dataset, params.model, params.train.seed)
    data = make_training_data(dataset, params.data, params.augment)
    return trainer.epochs(state, data, lambda loss, num_steps: None)
