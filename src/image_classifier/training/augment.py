"""Training-time augmentation of raw images, by Albumentations: pad and random crop, horizontal flip, CutOut."""

import os
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from image_classifier.data import Images
from image_classifier.project.params import AugmentParams

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # at import, do not ask the network for a newer version
import albumentations as A


class Augmentation:
    """Turns images uint8 (N, image_px, image_px, 3) and a seed into augmented images of the same shape.

    The same seed gives the same result. Pixels that are cut out, or padded in mode `mean`, get the mean colour (`mean`
    in 0..1), which is 0 after normalisation. If flips alternate, the images marked in `mirrored` (N,) are mirrored
    first. Each loader process gets a copy, by pickle where processes are not forked.
    """

    def __init__(self, params: AugmentParams, mean: Sequence[float], image_px: int) -> None:
        fill = tuple(round(255 * channel) for channel in mean)
        steps: list[A.BasicTransform] = []
        if params.padding:
            border = cv2.BORDER_REFLECT_101 if params.padding_mode == "reflect" else cv2.BORDER_CONSTANT
            pad = A.Pad(padding=params.padding, border_mode=border, fill=fill)
            steps += [pad, A.RandomCrop(image_px, image_px)]
        if params.flip is True:
            steps += [A.HorizontalFlip(p=0.5)]
        if params.cutout:
            side = (params.cutout, params.cutout)
            steps += [
                A.CoarseDropout(num_holes_range=(1, 1), hole_height_range=side, hole_width_range=side, fill=fill, p=1)
            ]
        self._transform = A.Compose(steps)
        self._alternates = params.flip == "alternate"

    def __call__(self, images: Images, seed: int, mirrored: NDArray[np.bool_] | None = None) -> Images:
        if self._alternates and mirrored is not None:
            images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        self._transform.set_random_seed(seed)
        return np.stack([self._transform(image=image)["image"] for image in images])
