"""The work to do: network, data, augmentation and settings are the product's own."""

from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from image_classifier.data import Dataset, load_dataset
from image_classifier.model.convolution import Conv3x3
from image_classifier.model.network import Network, make_network
from image_classifier.project.params import CustomResNetParams

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
PEAK_LR = 0.1
NUM_WORKERS = 2  # as in the notebooks


class AugmentedImages(TorchDataset[tuple[Tensor, int]]):
    """Images uint8 (N, 32, 32, 3), one by one through an Albumentations pipeline."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: A.Compose) -> None:
        self.images = np.array(images)
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(image=self.images[index])["image"], self.labels[index]


@dataclass(frozen=True)
class Task:
    """What one contender is to train."""

    dataset: Dataset
    width: int
    batch_size: int
    epochs: int
    border_mode: int = cv2.BORDER_CONSTANT  # of what is padded

    def make_network(self) -> Network:
        """The product's network, with PyTorch's own convolutions."""
        torch.manual_seed(0)
        settings = CustomResNetParams(network="custom_resnet", width=self.width, logit_scale=0.125)
        net = make_network(settings, len(self.dataset.classes), self.dataset.mean, self.dataset.std)
        for module in net.modules():
            if isinstance(module, Conv3x3):
                module.__class__ = nn.Conv2d  # type: ignore[assignment]  # which it is derived from
        return net

    def train_loader(self) -> DataLoader[tuple[Tensor, int]]:
        transform = train_transform(self.dataset, self.border_mode)
        images = AugmentedImages(self.dataset.train_images, self.dataset.train_labels, transform)
        return DataLoader(images, batch_size=self.batch_size, shuffle=True, num_workers=NUM_WORKERS)

    def test_loader(self) -> DataLoader[tuple[Tensor, int]]:
        images = AugmentedImages(self.dataset.test_images, self.dataset.test_labels, A.Compose(to_tensor(self.dataset)))
        return DataLoader(images, batch_size=self.batch_size, num_workers=NUM_WORKERS)


def to_tensor(dataset: Dataset) -> list[A.BasicTransform]:
    """Standardise an image and make it a tensor (3, 32, 32)."""
    return [A.Normalize(dataset.mean, dataset.std), ToTensorV2()]


def train_transform(dataset: Dataset, border_mode: int = cv2.BORDER_CONSTANT) -> A.Compose:
    """Pad and random crop, flip, CutOut 8x8: the assignment's."""
    fill = tuple(round(255 * channel) for channel in dataset.mean)
    return A.Compose(
        [
            A.PadIfNeeded(40, 40, fill=fill, border_mode=border_mode),
            A.RandomCrop(32, 32),
            A.HorizontalFlip(p=0.5),
            A.CoarseDropout(num_holes_range=(1, 1), hole_height_range=(8, 8), hole_width_range=(8, 8), fill=fill, p=1),
            *to_tensor(dataset),
        ]
    )


def read_task() -> Task:
    """The task that the command line describes."""
    parser = ArgumentParser()
    parser.add_argument("data", type=Path)
    for name in ("width", "batch_size", "epochs"):
        parser.add_argument(name, type=int)
    arguments = parser.parse_args()
    return Task(load_dataset(arguments.data), arguments.width, arguments.batch_size, arguments.epochs)


def say(line: str) -> None:
    """Print one of the three lines, at once and on a line of its own even beside a progress bar."""
    print(f"\r{line}", flush=True)
