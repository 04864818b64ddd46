"""BatchNorm over parts of a batch: Hoffer et al. 2017, arXiv:1705.08741."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GhostBatchNorm2d(nn.BatchNorm2d):
    """In training, normalizes each part of a batch (N, C, H, W) by its own mean and variance.

    These are noisier than the whole batch's, which regularizes. The running statistics move as far in a step as by it.
    """

    size: int  # images in a part, at least

    def forward(self, x: Tensor) -> Tensor:
        num_parts = len(x) // self.size
        if not self.training or num_parts < 2:
            return super().forward(x)
        assert self.momentum is not None
        momentum = 1 - (1 - self.momentum) ** (1 / num_parts)
        # chunk, not tensor_split: its backward pass took five times as long.
        parts = [
            F.batch_norm(part, self.running_mean, self.running_var, self.weight, self.bias, True, momentum, self.eps)
            for part in x.chunk(num_parts)
        ]
        return torch.cat(parts)


def use_ghost_batches(net: nn.Module, size: int) -> None:
    """Let every BatchNorm of `net` see `size` images at a time; all of it is saved as without."""
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GhostBatchNorm2d  # the same parameters and buffers, another forward
            cast(GhostBatchNorm2d, module).size = size
