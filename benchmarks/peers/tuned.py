"""The notebooks' loop as an experienced user runs it: bfloat16 where the CPU multiplies it, and channels_last.

The bench also has it keep its heap, by glibc's environment variables.
"""

import torch
from torch import Tensor, nn

from benchmarks.peers.plain import run
from benchmarks.peers.task import read_task
from image_classifier.model.compute import native_precisions


class Tuned(nn.Module):
    """A network under autocast, its weights and images in channels_last."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        self.has_bf16 = "bf16" in native_precisions(torch.device("cpu"))

    def forward(self, images: Tensor) -> Tensor:
        """From images float32 (N, 3, 32, 32) to logits float32 (N, 10)."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.has_bf16):
            logits: Tensor = self.net(images.contiguous(memory_format=torch.channels_last))
        return logits.float()


if __name__ == "__main__":
    task = read_task()
    run(task, Tuned(task.make_network()))
