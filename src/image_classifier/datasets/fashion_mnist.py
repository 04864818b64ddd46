"""`fashion_mnist`: 70,000 grey pictures of clothes, 28x28 px, in 10 classes, of which 10,000 are the test set."""

import numpy as np

from image_classifier.data import Made
from image_classifier.project.params import DataParams
from image_classifier.sources.torchvision_sets import verified_files

HOME_PAGE = "https://github.com/zalandoresearch/fashion-mnist"
SOURCES = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)


def make(data: DataParams) -> Made:
    """Fashion-MNIST in RGB."""
    from torchvision.datasets import FashionMNIST

    with verified_files(data, SOURCES, dict(FashionMNIST.resources), "FashionMNIST/raw") as root:
        parts = [FashionMNIST(root, train=is_train) for is_train in (True, False)]
    train, test = ((np.stack([part.data.numpy()] * 3, axis=-1), part.targets.numpy()) for part in parts)
    return FashionMNIST.classes, train, test
