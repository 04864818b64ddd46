"""Networks to choose from, one file each, named as `model.network` names it. docs/extending.md says how to add one.

No stage depends on this registry, which computes nothing: stages depend on the chosen network's file.
"""

import importlib
from collections.abc import Sequence

from cifar_resnet.networks.base import Network
from cifar_resnet.params import ModelParams


def make_network(settings: ModelParams, num_classes: int, mean: Sequence[float], std: Sequence[float]) -> Network:
    """An untrained network. `mean` and `std` are of the training images, per channel, for pixels in 0..1."""
    module = importlib.import_module(f"{__name__}.{settings.network}")
    net: Network = module.make(settings, num_classes)
    net.set_colours(mean, std)
    return net
