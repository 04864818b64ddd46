"""`digits`: 1,797 handwritten digits of 8x8 px that scikit-learn ships, so no download is needed."""

import numpy as np
from PIL import Image

from image_classifier.data import Made
from image_classifier.project.params import DataParams
from image_classifier.sources.making import split_test

HOME_PAGE = "https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html"


def make(data: DataParams) -> Made:
    """The digits, enlarged; a stratified share is the test set."""
    from sklearn.datasets import load_digits  # takes 1.5 s, and only this data set needs it

    digits = load_digits()
    gray = (digits.images * (255 / 16)).round().astype(np.uint8)  # the pixels are 0 to 16
    # Bicubic: nearest leaves 4 px blocks and bilinear blurs the strokes.
    side = (data.image_px, data.image_px)
    enlarged = (Image.fromarray(image).resize(side, Image.Resampling.BICUBIC) for image in gray)
    images = np.stack([np.asarray(image.convert("RGB")) for image in enlarged])
    return "0123456789", *split_test(images, digits.target, data)
