"""The assignment's custom ResNet."""

import torch.nn.functional as F
from torch import Tensor, nn

from image_classifier.model.convolution import Conv3x3
from image_classifier.model.network import Network
from image_classifier.project.params import CustomResNetParams


def conv_block(in_channels: int, out_channels: int, *, pool: bool = False) -> nn.Sequential:
    """Conv 3x3, optional MaxPool 2, BatchNorm, ReLU; the pool before BatchNorm saves 3/4 of BatchNorm's work."""
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


class GlobalMaxPool(nn.Module):
    """Maps (N, C, H, W) to their maxima (N, C, 1, 1): the assignment's MaxPool(4) for 32 px images, bit for bit."""

    def forward(self, maps: Tensor) -> Tensor:
        return F.max_pool2d(maps, kernel_size=maps.shape[-2:])


class CustomResNet(Network):
    """With `width` 64 and 10 classes it has 6,573,130 parameters. The comments give the sizes for 32 px images.

    `logit_scale` multiplies the logits, as in Page 2018 (https://github.com/davidcpage/cifar10-fast).
    """

    def __init__(self, settings: CustomResNetParams, num_classes: int) -> None:
        super().__init__(settings)
        width = settings.width
        self.logit_scale = settings.logit_scale
        self.prep = conv_block(3, width)  # 32 px
        self.layer1 = ResidualLayer(width, 2 * width)  # 16 px
        self.layer2 = conv_block(2 * width, 4 * width, pool=True)  # 8 px
        self.layer3 = ResidualLayer(4 * width, 8 * width)  # 4 px
        self.pool = GlobalMaxPool()
        self.classifier = nn.Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.prep(x))))
        logits: Tensor = self.classifier(self.pool(x).flatten(1)) * self.logit_scale
        return logits


make = CustomResNet
