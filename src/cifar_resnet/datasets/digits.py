"""`digits`: 1,797 handwritten digits of 8x8 px that scikit-learn ships, so no download is needed."""

import numpy as np
from PIL import Image

from cifar_resnet.data import Dataset, channel_statistics, split_validation
from cifar_resnet.params import DataParams

HOME_PAGE = "https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html"


def make(data: DataParams) -> Dataset:
    """The digits, enlarged; a stratified share is the test set."""
    from sklearn.datasets import load_digits  # takes 1.5 s, and only this data set needs it

    digits = load_digits()
    gray = (digits.images * (255 / 16)).round().astype(np.uint8)  # the pixels are 0 to 16
    # Bicubic: nearest leaves 4 px blocks and bilinear blurs the strokes.
    side = (data.image_px, data.image_px)
    enlarged = (Image.fromarray(image).resize(side, Image.Resampling.BICUBIC) for image in gray)
    images = np.stack([np.asarray(image.convert("RGB")) for image in enlarged])
    labels = digits.target.astype(np.int64)
    train, test = split_validation(labels, num_images=int(data.test_share * len(labels)), seed=data.split_seed)
    mean, std = channel_statistics(images[train])
    classes = tuple(str(name) for name in digits.target_names)
    return Dataset("digits", classes, mean, std, images[train], labels[train], images[test], labels[test])
