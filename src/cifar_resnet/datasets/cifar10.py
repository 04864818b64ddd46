"""`cifar10`: 60,000 photos of 32x32 px in 10 classes, of which 10,000 are the test set (Krizhevsky 2009)."""

import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cifar_resnet.data import Channels, Dataset, Images, Labels
from cifar_resnet.errors import UserError
from cifar_resnet.params import DataParams
from cifar_resnet.sources import fetch_files

HOME_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCH = "test_batch"
META = "batches.meta"

# Published with torchvision.datasets.CIFAR10.
PUBLISHED_MD5: Mapping[str, str] = {
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

# Of the 50,000 training images, by channel, as pixels / 255.
MEAN: Channels = (0.49139968, 0.48215841, 0.44653091)
STD: Channels = (0.24703223, 0.24348513, 0.26158784)


def make(data: DataParams) -> Dataset:
    """CIFAR-10 from the first source that has it.

    Raises:
        UserError: no source has it.
    """
    return decode(fetch_files("cifar10", data.sources, PUBLISHED_MD5))


def decode(files: Mapping[str, bytes]) -> Dataset:
    """The data set in the published files.

    Raises:
        UserError: a file asks for code to be run.
    """
    unpickled = {name: _unpickle(name, content) for name, content in files.items()}
    classes = tuple(name.decode("ascii") for name in unpickled[META][b"label_names"])
    train, test = (_join([unpickled[name] for name in names]) for names in (TRAIN_BATCHES, [TEST_BATCH]))
    return Dataset("cifar10", classes, MEAN, STD, *train, *test)


def _join(batches: Sequence[dict[bytes, Any]]) -> tuple[Images, Labels]:
    """Images and labels of batches, which store each image as a red, a green and a blue plane."""
    planes = [batch[b"data"].reshape(-1, 3, 32, 32) for batch in batches]
    labels = np.concatenate([np.array(batch[b"labels"], dtype=np.int64) for batch in batches])
    images = np.empty((len(labels), 32, 32, 3), dtype=np.uint8)
    np.concatenate(planes, out=images.transpose(0, 3, 1, 2))
    return images, labels


class _Unpickler(pickle.Unpickler):
    """Makes plain containers and NumPy arrays, all that these files hold, and refuses to name anything else."""

    _ALLOWED: Mapping[tuple[str, str], Any] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],  # else only in a private module
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        return self._ALLOWED[module_name, global_name]


def _unpickle(name: str, content: bytes) -> dict[bytes, Any]:
    try:
        unpickled: dict[bytes, Any] = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except pickle.UnpicklingError as error:
        raise UserError(f"{name} is refused: {error}") from None
    return unpickled
