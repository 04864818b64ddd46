"""torchvision's ResNet-18 (He et al. 2015, arXiv:1512.03385) with a stem for small images; an example to copy.

The first convolution is 3x3 with stride 1, and no pooling follows it: the original's 7x7 with stride 2 and pooling,
made for 224 px, would leave 1 px maps of a 32 px image. 11,173,962 parameters with 10 classes.
"""

from torch import Tensor, nn
from torchvision.models import resnet18

from image_classifier.model.network import Network
from image_classifier.project.params import ResNet18Params


class SmallImageResNet18(Network):
    layers_are_in = "body."

    def __init__(self, settings: ResNet18Params, num_classes: int) -> None:
        super().__init__(settings)
        self.body = resnet18(num_classes=num_classes, zero_init_residual=settings.zero_init_residual)
        self.body.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        self.body.maxpool = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits


make = SmallImageResNet18
