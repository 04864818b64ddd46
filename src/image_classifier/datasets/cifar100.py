"""`cifar100`: 60,000 photos of 32x32 px in 100 classes, of which 10,000 are the test set (Krizhevsky 2009)."""

from image_classifier.data import Made
from image_classifier.project.params import DataParams
from image_classifier.sources.torchvision_sets import make_cifar

HOME_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
SOURCES = ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",)


def make(data: DataParams) -> Made:
    """CIFAR-100 with its fine labels."""
    from torchvision.datasets import CIFAR100

    return make_cifar(CIFAR100, data, SOURCES)
