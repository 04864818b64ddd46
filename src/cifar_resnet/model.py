"""The assignment's custom ResNet, its input normalisation, and the form in which it is served."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cifar_resnet.convolution import Conv3x3
from cifar_resnet.data import Dataset
from cifar_resnet.errors import UserError
from cifar_resnet.params import ModelParams


def conv_block(in_channels: int, out_channels: int, *, pool: bool = False) -> nn.Sequential:
    """Conv 3x3, optional MaxPool 2, BatchNorm, ReLU; the pool comes first, which spares BatchNorm 3/4 of its work."""
    return nn.Sequential(
        Conv3x3(in_channels, out_channels),
        *([nn.MaxPool2d(2)] if pool else []),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class ResidualLayer(nn.Module):
    """X = a pooled conv block, then X + two conv blocks of X."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.entry = conv_block(in_channels, out_channels, pool=True)
        self.residual = nn.Sequential(conv_block(out_channels, out_channels), conv_block(out_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        out: Tensor = x + self.residual(x)
        return out


class ResNet(nn.Module):
    """Images to logits. With `width=64` and 10 classes it has 6,573,130 parameters.

    `logit_scale` multiplies the logits, as in Page 2018 (https://github.com/davidcpage/cifar10-fast). `mean` and `std`
    are those of the training images, per channel, for pixels in 0..1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, num_classes: int, width: int, logit_scale: float, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.logit_scale = logit_scale
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

        self.prep = conv_block(3, width)  # 32 px
        self.layer1 = ResidualLayer(width, 2 * width)  # 16 px
        self.layer2 = conv_block(2 * width, 4 * width, pool=True)  # 8 px
        self.layer3 = ResidualLayer(4 * width, 8 * width)  # 4 px
        self.pool = nn.MaxPool2d(4)
        self.classifier = nn.Linear(8 * width, num_classes)

    def normalize(self, images: Tensor) -> Tensor:
        """Raw uint8 images (N, 32, 32, 3) to standardised float32 (N, 3, 32, 32), channels last in memory."""
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std

    def forward(self, x: Tensor) -> Tensor:
        """Standardised images (N, 3, 32, 32) to logits (N, num_classes).

        There is no softmax here: the loss wants logits. `ServedModel` has it.
        """
        x = self.layer3(self.layer2(self.layer1(self.prep(x))))
        logits: Tensor = self.classifier(self.pool(x).flatten(1)) * self.logit_scale
        return logits


def make_network(dataset: Dataset, model: ModelParams) -> ResNet:
    """A network for the classes and colours of a data set, with PyTorch's default initial weights."""
    return ResNet(len(dataset.classes), model.width, model.logit_scale, dataset.mean, dataset.std)


class ServedModel(nn.Module):
    """What people call: raw uint8 images (N, 32, 32, 3) to probabilities (N, num_classes)."""

    def __init__(self, net: ResNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(self.net.normalize(images))
        return logits.softmax(dim=1)


def load_weights(net: ResNet, path: Path) -> ResNet:
    """Fill `net` with the weights in a state-dict file, without unpickling code, and set it to inference mode.

    Raises:
        UserError: the file is missing, damaged, or of another network.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(weights)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: train it with `dvc repro train`, or fetch it with `dvc pull`") from None
    except Exception as error:  # torch.load has no single type for a damaged file
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path} does not fit the network of params.yaml ({reason}): run `dvc repro train`") from None
    return net.eval()
