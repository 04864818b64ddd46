"""Shared by the data sets that torchvision decodes: torchvision has the checksums, and gets only matching files."""

import gzip
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from image_classifier.data import Made
from image_classifier.project.params import DataParams
from image_classifier.sources.fetching import fetch_files


@contextmanager
def verified_files(
    data: DataParams, sources: Sequence[str], checksums: Mapping[str, str], subfolder: str
) -> Iterator[Path]:
    """A folder with the data set's files in `subfolder`, unzipped. `fetch_files` says what a source is.

    Raises:
        UserError: no source has them.
    """
    files = fetch_files(data.dataset, sources, checksums)
    with TemporaryDirectory() as root:
        folder = Path(root, subfolder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            is_zipped = name.endswith(".gz")
            (folder / name.removesuffix(".gz")).write_bytes(gzip.decompress(content) if is_zipped else content)
        yield Path(root)


def make_cifar(cifar: Any, data: DataParams, sources: Sequence[str]) -> Made:
    """The data set of torchvision's class CIFAR10, or of a class derived from it."""
    meta = (cifar.meta["filename"], cifar.meta["md5"])
    checksums = dict([*cifar.train_list, *cifar.test_list, meta])
    with verified_files(data, sources, checksums, cifar.base_folder) as root:
        train, test = (cifar(root, train=is_train) for is_train in (True, False))
    return train.classes, (train.data, train.targets), (test.data, test.targets)
