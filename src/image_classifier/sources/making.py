"""Makes a data set from the file of its name in `datasets/`: its images scaled, and the statistics of their colours."""

import importlib
from types import ModuleType

import numpy as np
import numpy.typing as npt
from PIL import Image

from image_classifier.data import Channels, Dataset, Images, Labels, Part, split_validation
from image_classifier.project.params import DataParams
from image_classifier.system.errors import UserError


def plugin(name: str) -> ModuleType:
    """The module of a data set."""
    return importlib.import_module(f"image_classifier.datasets.{name}")


def make_dataset(data: DataParams) -> Dataset:
    """Make the chosen data set, with its images scaled to `data.image_px`.

    Raises:
        UserError: the data cannot be fetched or read, or does not make a data set.
    """
    classes, *parts = plugin(data.dataset).make(data)
    train, test = (
        (np.ascontiguousarray(scale(images, data.image_px)), np.asarray(labels, dtype=np.int64))
        for images, labels in parts
    )
    mean, std = channel_statistics(train[0])
    if std == (1, 1, 1):  # of other pictures it is at most 0.5
        raise UserError(
            f"all {len(train[0]):,} training images of {data.dataset} have one and the same colour: check "
            "the files, since there is nothing to learn"
        )
    return Dataset(data.dataset, tuple(classes), mean, std, *train, *test)


def split_test(images: Images, labels: Labels, data: DataParams) -> tuple[Part, Part]:
    """Split images into training and test set; the test set gets `data.test_share` of each class."""
    train, test = split_validation(labels, int(data.test_share * len(labels)), data.split_seed)
    return (images[train], labels[train]), (images[test], labels[test])


def scale(images: Images, image_px: int) -> Images:
    """Images (N, H, W, 3) scaled to (N, image_px, image_px, 3); unchanged if they have this size."""
    if images.shape[1] == image_px:
        return images
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((image_px, image_px), Image.Resampling.LANCZOS)) for image in images]
    )


def channel_statistics(images: Images) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel of pixels / 255, from exact sums: the same on every machine.

    A channel that never changes gets a standard deviation of 1, since images are divided by it.
    """
    counts = np.zeros((3, 256), dtype=np.int64)
    for image in images:
        counts += [np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(3)]
    values, num_pixels = np.arange(256), images[..., 0].size
    mean = counts @ values / num_pixels
    std = np.sqrt(counts @ values**2 / num_pixels - mean**2)
    std[std == 0] = 255
    return _as_channels(mean / 255), _as_channels(std / 255)


def _as_channels(values: npt.NDArray[np.float64]) -> Channels:
    red, green, blue = (round(float(value), 8) for value in values)
    return red, green, blue
