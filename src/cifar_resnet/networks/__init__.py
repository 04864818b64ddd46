"""Networks to choose from, one file each, named as `model.network` names it. docs/extending.md says how to add one.

No stage depends on this registry: stages depend on the chosen network's file, which it imports.
"""

import importlib
from collections.abc import Sequence

import torch

from cifar_resnet.networks.base import Network
from cifar_resnet.params import ModelParams


def make_network(settings: ModelParams, num_classes: int, mean: Sequence[float], std: Sequence[float]) -> Network:
    """An untrained network. `mean` and `std` are of the training images, per channel, for pixels in 0..1."""
    module = importlib.import_module(f"{__name__}.{settings.network}")
    net: Network = module.make(settings, num_classes)
    net.mean, net.std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    return net
