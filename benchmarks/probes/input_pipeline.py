"""Images per second from the data set to standardised float32 tensors, on one core: this project's way and others'.

Argument: the folder of the data set.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.peers.task import AugmentedImages, train_transform
from benchmarks.probes import interleaved, report
from image_classifier.data import load_dataset
from image_classifier.model.network import make_network
from image_classifier.project.params import AugmentParams, CustomResNetParams
from image_classifier.training.augment import Augmentation
from image_classifier.training.batches import EpochBatches

BATCH_SIZE = 512
NUM_IMAGES = 2048
REPEATS = 5


class TorchvisionImages(Dataset[tuple[torch.Tensor, int]]):
    """Images uint8 (N, 32, 32, 3), one by one through torchvision's v2 transforms."""

    def __init__(self, images: torch.Tensor, labels: list[int], transform: v2.Transform) -> None:
        self.images = images.permute(0, 3, 1, 2)
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def exhaust(batches: Iterable[object]) -> None:
    """Go through all batches."""
    for _ in batches:
        pass


def main(folder: Path) -> None:
    """Report the rates; all run in this process, without loader processes, so CPU seconds compare."""
    torch.set_num_threads(1)
    dataset = load_dataset(folder)
    images, labels = dataset.train_images[:NUM_IMAGES], dataset.train_labels[:NUM_IMAGES]

    augment = Augmentation(
        AugmentParams(padding=4, padding_mode="mean", flip=True, cutout=8), dataset.mean, dataset.image_px
    )
    ours = EpochBatches(images, labels, augment, BATCH_SIZE, 0, 0)
    settings = CustomResNetParams(network="custom_resnet", width=4, logit_scale=1.0)
    net = make_network(settings, 10, dataset.mean, dataset.std)  # for its normalize()

    albumentations = DataLoader(
        AugmentedImages(images, labels, train_transform(dataset)), batch_size=BATCH_SIZE, shuffle=True
    )
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(dataset.mean, dataset.std),
            v2.RandomErasing(p=1, scale=(1 / 16, 1 / 16), ratio=(1, 1)),  # 8x8 px
        ]
    )
    torchvision = DataLoader(
        TorchvisionImages(torch.tensor(images), labels.tolist(), transform), batch_size=BATCH_SIZE, shuffle=True
    )
    times = interleaved(
        {
            "this project": lambda: exhaust(
                net.normalize(batch) for batch, _ in ours.load(0, num_workers=0, pin_memory=False)
            ),
            "Albumentations in a DataLoader": lambda: exhaust(albumentations),
            "torchvision v2 in a DataLoader": lambda: exhaust(torchvision),
        },
        REPEATS,
    )
    report({name: len(labels) / seconds["cpu_seconds"] for name, seconds in times.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
