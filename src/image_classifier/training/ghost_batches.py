"""BatchNorm over parts of a batch: Hoffer et al. 2017, arXiv:1705.08741."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from image_classifier.model.network import convert_batch_norms


class GhostBatchNorm2d(nn.BatchNorm2d):
    """In training, normalizes each part of a batch (N, C, H, W) by its own mean and variance.

    The statistics of a part are noisier than those of the whole batch, and this noise regularizes. In each step, the
    running statistics move as far as with the whole batch.
    """

    size: int  # images in a part; if it does not divide the batch, parts are larger, and the last one has the rest

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or len(x) < 2 * self.size:
            return super().forward(x)
        parts = x.chunk(len(x) // self.size)  # the backward pass of tensor_split takes five times as long
        assert self.momentum is not None
        momentum = 1 - (1 - self.momentum) ** (1 / len(parts))  # chunk may make fewer parts than asked
        return torch.cat(
            [
                F.batch_norm(
                    part, self.running_mean, self.running_var, self.weight, self.bias, True, momentum, self.eps
                )
                for part in parts
            ]
        )


def use_ghost_batches(net: nn.Module, size: int) -> None:
    """Let every BatchNorm of `net` see `size` images at a time; the names in its `state_dict` stay."""
    for norm in convert_batch_norms(net, GhostBatchNorm2d):
        norm.size = size
