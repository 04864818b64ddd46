"""Batches of training images, each a pure function of (seed, epoch, number).

So the number of loader workers or training processes does not change the order, and a resumed training sees the same
batches as an uninterrupted one.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from image_classifier.data import Images

# Images that share one random stream. Seeding costs 0.1 ms, as much as augmenting one image; once per group, that is
# little. Each training process gets whole groups, so an image is augmented alike for any number of processes.
GROUP_SIZE = 32

# (images, seed, which images to mirror if flips alternate) -> augmented images
Augment = Callable[[Images, int, NDArray[np.bool_]], Images]


@dataclass(frozen=True)
class EpochBatches(Dataset[tuple[Tensor, Tensor]]):
    """The batches of one epoch: number -> (images uint8 (n, image_px, image_px, 3), labels int64 (n,)).

    Every image comes once an epoch. The last batch may be smaller. A single image that is left over joins the batch
    before, since BatchNorm needs two images for a variance. With several training processes, each batch is the share
    of process `rank` out of `num_ranks`.
    """

    images: Images
    labels: NDArray[np.int64]
    augment: Augment
    batch_size: int
    seed: int
    epoch: int
    rank: int = 0
    num_ranks: int = 1

    def __len__(self) -> int:
        return max(1, math.ceil((len(self.labels) - 1) / self.batch_size))

    def size(self, number: int) -> int:
        """Images in a batch, over all training processes."""
        is_last = number == len(self) - 1
        return len(self.labels) - number * self.batch_size if is_last else self.batch_size

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.labels))
        batch = order[number * self.batch_size :][: self.size(number)]
        groups = np.split(batch, range(GROUP_SIZE, len(batch), GROUP_SIZE))
        mirrored = (np.random.default_rng(self.seed).random(len(self.labels)) < 0.5) ^ (self.epoch % 2 == 1)
        images, labels = [self.images[:0]], [self.labels[:0]]  # a share may be empty
        for index in range(self.rank, len(groups), self.num_ranks):
            stream = np.random.SeedSequence([self.seed, self.epoch, number, index])
            group, seed = groups[index], int(stream.generate_state(1)[0])
            images.append(self.augment(self.images[group], seed, mirrored[group]))
            labels.append(self.labels[group])
        return torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels))

    def load(self, first: int, num_workers: int, *, pin_memory: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the batches from number `first` on, prepared by `num_workers` other processes."""
        numbers = range(first, len(self))
        loader = DataLoader(self, sampler=numbers, batch_size=None, num_workers=num_workers, pin_memory=pin_memory)
        return iter(loader)
