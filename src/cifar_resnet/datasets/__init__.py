"""Data sets to choose from, one file each, named as `data.dataset` names it. docs/extending.md says how to add one.

Such a file has `make(data: DataParams) -> Dataset` and `HOME_PAGE`, a URL, which is empty for a set without one. Only
stage download depends on them, and of them only on the chosen one.
"""

import importlib
from dataclasses import replace
from types import ModuleType

import numpy as np
from PIL import Image

from cifar_resnet.data import Dataset, Images, channel_statistics
from cifar_resnet.params import DataParams


def plugin(name: str) -> ModuleType:
    """The module of a data set."""
    return importlib.import_module(f"{__name__}.{name}")


def make_dataset(data: DataParams) -> Dataset:
    """Make the chosen data set, its images scaled to `data.image_px` if they have another size.

    Raises:
        UserError: it cannot be had, or not in this form.
    """
    dataset: Dataset = plugin(data.dataset).make(data)
    if dataset.image_px == data.image_px:
        return dataset
    train_images, test_images = (scale(images, data.image_px) for images in (dataset.train_images, dataset.test_images))
    mean, std = channel_statistics(train_images)
    return replace(dataset, mean=mean, std=std, train_images=train_images, test_images=test_images)


def scale(images: Images, image_px: int) -> Images:
    """Images (N, H, W, 3) as (N, image_px, image_px, 3)."""
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((image_px, image_px), Image.Resampling.LANCZOS)) for image in images]
    )
