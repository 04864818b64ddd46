"""Networks as they run: their base class, the classifier around one, and how one is made or changed."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TypeVar, cast

import torch
from torch import Tensor, nn

from image_classifier.data import Channels
from image_classifier.project.params import ModelParams
from image_classifier.system.errors import UserError

Norm = TypeVar("Norm", bound=nn.BatchNorm2d)


class Network(nn.Module):
    """Standardised images (N, 3, H, W) to logits (N, num_classes), for any H = W that the network can halve.

    There is no softmax, since the loss takes logits. `Classifier` adds it.
    """

    mean: Tensor  # (1, 3, 1, 1), of the raw values 0 to 255; `set_colours` sets both
    std: Tensor
    logit_scale = 1.0  # factor on the logits, which Grad-CAM leaves out
    own_colours: tuple[Channels, Channels] | None = None  # mean and std that it always takes, not those of the images
    keeps_statistics = False  # whether BatchNorm uses the statistics that it started with, also in training
    layers_are_in = ""  # the submodule, with a dot behind it, that has the layers which the settings name for Grad-CAM

    def __init__(self, settings: ModelParams) -> None:
        super().__init__()
        self._layer_names = settings.gradcam_layers
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.ones(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.keeps_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def layers(self) -> list[list[nn.Parameter]]:
        """The weights by layer, from the first to the last, which gives the logits; layer decay needs this order."""
        body = self.get_submodule(self.layers_are_in.removesuffix("."))
        return [weights for layer in body.children() if (weights := list(layer.parameters()))]

    def published_weights(self, folder: Path) -> Path:
        """The file of its pretrained weights, downloaded into `folder`; raises a UserError if there are none."""
        raise UserError(
            "train.start_from is pretrained; allowed for this network, which has no published weights: "
            "random, or a file in weights/"
        )

    def gradcam_layers(self) -> dict[str, nn.Module]:
        """The layers that Grad-CAM can explain, under the names that `gradcam.layer` takes."""
        return {name: self.get_submodule(f"{self.layers_are_in}{name}") for name in self._layer_names}

    def set_colours(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take the mean and standard deviation of the training pixels, per channel, for pixels in 0..1."""
        self.colours = tuple(mean), tuple(std)
        self.mean, self.std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))

    def normalize(self, images: Tensor) -> Tensor:
        """Raw uint8 images (N, H, W, 3) to standardised float32 (N, 3, H, W), channels last in memory."""
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std


def make_network(settings: ModelParams, num_classes: int, mean: Sequence[float], std: Sequence[float]) -> Network:
    """An untrained network. `mean` and `std` are of the training images, per channel, for pixels in 0..1.

    A network that expects other ones has these in `own_colours`, and takes them.
    """
    module = importlib.import_module(f"image_classifier.networks.{settings.network}")
    net: Network = module.make(settings, num_classes)
    net.set_colours(*(net.own_colours or (mean, std)))
    return net


class Classifier(nn.Module):
    """A network for users: raw uint8 images (N, H, W, 3) to probabilities (N, num_classes)."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(self.net.normalize(images))
        return logits.softmax(dim=1)


def convert_batch_norms(net: nn.Module, kind: type[Norm]) -> list[Norm]:
    """Turn every BatchNorm of `net` into one of `kind`, with the same parameters and buffers; returns them."""
    norms = [module for module in net.modules() if type(module) is nn.BatchNorm2d]
    for norm in norms:
        norm.__class__ = kind
    return cast(list[Norm], norms)
