"""What a trained network says of images: logits, and probabilities."""

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from image_classifier.data import Images
from image_classifier.model.compute import Compute
from image_classifier.model.network import Network

LARGEST_BATCH = 512  # images; no setting, since rounding may depend on it; a multiple of 16 for Conv3x3
BATCH_PIXELS = LARGEST_BATCH * 32**2  # so that large images take no more memory: 512 of 112 px took 8.9 GB


def batch_size(image_px: int) -> int:
    """How many images of `image_px` a network gets at once."""
    return min(LARGEST_BATCH, max(1, BATCH_PIXELS // image_px**2))


@torch.inference_mode()
def predict_logits(net: Network, images: Images, compute: Compute, *, mirrored: bool = False) -> NDArray[np.float32]:
    """Logits (N, classes) for raw images uint8 (N, H, W, 3), or for their mirror images."""
    net.eval()
    logits, size = [], batch_size(images.shape[1])
    for start in tqdm(range(0, len(images), size), desc="predict", leave=False, delay=2, disable=None):
        batch = torch.tensor(images[start : start + size], device=compute.device)
        with compute.autocast():
            logits.append(net(net.normalize(batch.flip(2) if mirrored else batch)).float().cpu())
    return torch.cat(logits).numpy()


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities (N, classes) in double precision, so that they sum to 1 after printing."""
    return torch.from_numpy(logits).double().softmax(dim=1).numpy()
