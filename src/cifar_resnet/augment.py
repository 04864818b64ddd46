"""Training-time augmentation of raw images, by Albumentations: pad and random crop, horizontal flip, CutOut."""

import os
from collections.abc import Callable, Sequence

import numpy as np

from cifar_resnet.data import Images
from cifar_resnet.params import AugmentParams

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look for a newer version over the network at import
import albumentations as A

IMAGE_SIZE_PX = 32


def make_augmentation(params: AugmentParams, mean: Sequence[float]) -> Callable[[Images, int], Images]:
    """Build a function from images uint8 (N, 32, 32, 3) and a seed to augmented images of the same shape.

    The same seed gives the same result. What is padded or cut out gets the mean colour (`mean` in 0..1), which is 0
    after normalisation.
    """
    fill = tuple(round(255 * channel) for channel in mean)
    steps: list[A.BasicTransform] = []
    if params.padding:
        steps += [A.Pad(padding=params.padding, fill=fill), A.RandomCrop(IMAGE_SIZE_PX, IMAGE_SIZE_PX)]
    if params.flip:
        steps += [A.HorizontalFlip(p=0.5)]
    if params.cutout:
        side = (params.cutout, params.cutout)
        steps += [
            A.CoarseDropout(num_holes_range=(1, 1), hole_height_range=side, hole_width_range=side, fill=fill, p=1)
        ]
    transform = A.Compose(steps)

    def augment(images: Images, seed: int) -> Images:
        transform.set_random_seed(seed)
        return np.stack([transform(image=image)["image"] for image in images])

    return augment
