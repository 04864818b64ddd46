"""BatchNorm over parts of a batch: Hoffer et al. 2017, arXiv:1705.08741."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GhostBatchNorm2d(nn.BatchNorm2d):
    """In training, normalizes each part of a batch (N, C, H, W) by its own mean and variance.

    These are noisier than the whole batch's, which regularizes. The running statistics move as far in a step as by it.
    """

    size: int  # images in a part; where a batch is no multiple of it, a part has more, and the last one what is left

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or len(x) < 2 * self.size:
            return super().forward(x)
        parts = x.chunk(len(x) // self.size)  # the backward pass of tensor_split takes five times as long
        assert self.momentum is not None
        momentum = 1 - (1 - self.momentum) ** (1 / len(parts))  # chunk may make fewer parts than it was asked for
        return torch.cat([
            F.batch_norm(part, self.running_mean, self.running_var, self.weight, self.bias, True, momentum, self.eps)
            for part in parts
        ])  # fmt: skip


def use_ghost_batches(net: nn.Module, size: int) -> None:
    """Let every BatchNorm of `net` see `size` images at a time; its `state_dict` has the same names as before."""
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GhostBatchNorm2d  # the same parameters and buffers, another forward
            cast(GhostBatchNorm2d, module).size = size
