"""3x3 convolutions that stay fast on small maps."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Maps up to NARROW_PX wide are laid side by side, MAPS_IN_A_ROW of them. Time of one convolution of 512 images, forward
# and backward, in ms, without and with this, on two cores of an Intel Xeon with AMX:
#   512 to 512 channels, 4 px:  bf16 212 and 58,  fp32 473 and 345
#   256 to 512 channels, 8 px:  bf16 158 and 115, fp32 595 and 667
#   128 to 256 channels, 16 px: bf16 82 and 131,  fp32 583 and 658
NARROW_PX = 4
NARROW_HALF_PX = 8  # in 16-bit formats
MAPS_IN_A_ROW = 16


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution that keeps the size of its maps and has no bias, since BatchNorm follows.

    On CPUs, PyTorch convolves with oneDNN, one row of pixels at a time, and a row of 4 fills a quarter of an AMX tile.
    So 16 small maps are laid side by side, with a column of zeros after each. The outputs are those of `nn.Conv2d`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to maps (N, C', H, W)."""
        if maps.device.type != "cpu" or torch.compiler.is_exporting():  # an exported model takes any number of maps
            return super().forward(maps)
        is_narrow = maps.shape[-1] <= (NARROW_PX if maps.itemsize > 2 else NARROW_HALF_PX)
        count = math.gcd(len(maps), MAPS_IN_A_ROW)
        if not is_narrow or count == 1:
            return super().forward(maps)
        pixels: Tensor = F.pad(maps, (0, 1)).permute(0, 2, 3, 1).unflatten(0, (-1, count))  # N/count, count, H, W+1, C
        rows = super().forward(pixels.transpose(1, 2).flatten(2, 3).permute(0, 3, 1, 2))  # N/count, C', H, count*(W+1)
        pixels = rows.permute(0, 2, 3, 1).unflatten(2, (count, -1))  # N/count, H, count, W+1, C'
        return pixels[:, :, :, :-1].transpose(1, 2).flatten(0, 1).permute(0, 3, 1, 2)
