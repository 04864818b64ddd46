"""What the data sets that torchvision decodes share: it names the checksums, and finds only files that have them."""

import gzip
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cifar_resnet.data import Dataset, Images, channel_statistics
from cifar_resnet.params import DataParams
from cifar_resnet.sources import fetch_files

Part = tuple[Images, Sequence[int]]  # images (N, H, W, 3) and their labels


@contextmanager
def verified_files(name: str, data: DataParams, checksums: Mapping[str, str], subfolder: str) -> Iterator[Path]:
    """A folder with the data set's files in `subfolder`, unzipped.

    Raises:
        UserError: no source has them.
    """
    files = fetch_files(name, data.sources, checksums)
    with TemporaryDirectory() as root:
        folder = Path(root) / subfolder
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            is_zipped = file.endswith(".gz")
            (folder / file.removesuffix(".gz")).write_bytes(gzip.decompress(content) if is_zipped else content)
        yield Path(root)


def as_dataset(name: str, classes: Sequence[str], train: Part, test: Part) -> Dataset:
    """The data set, with the channel statistics of its training images."""
    (train_images, train_labels), (test_images, test_labels) = (
        (np.ascontiguousarray(images), np.asarray(labels, dtype=np.int64)) for images, labels in (train, test)
    )
    statistics = channel_statistics(train_images)
    return Dataset(name, tuple(classes), *statistics, train_images, train_labels, test_images, test_labels)
