"""Batches of images with another label each, to follow them through shuffling."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from image_classifier.project.params import AugmentParams
from image_classifier.training.augment import Augmentation
from image_classifier.training.batches import EpochBatches

NUM_IMAGES = 300
AUGMENT = Augmentation(
    AugmentParams(padding=4, padding_mode="mean", flip=True, cutout=8), mean=(0.5, 0.5, 0.5), image_px=32
)
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(NUM_IMAGES)  # another label for each image, to follow it


def epoch_batches(
    batch_size: int = 128, seed: int = 0, epoch: int = 0, rank: int = 0, num_ranks: int = 1
) -> EpochBatches:
    return EpochBatches(IMAGES, LABELS, AUGMENT, batch_size, seed, epoch, rank, num_ranks)


def load(batches: EpochBatches, first: int = 0, num_workers: int = 0) -> list[tuple[Tensor, Tensor]]:
    return list(batches.load(first, num_workers, pin_memory=False))


def labels_of(batches: Iterable[tuple[Tensor, Tensor]]) -> list[int]:
    return torch.cat([labels for _, labels in batches]).tolist()


def assert_equal(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> None:
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)
