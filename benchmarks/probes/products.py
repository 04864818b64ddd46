"""How fast this machine multiplies matrices, and how much a training step asks of it. Argument: side of a matrix."""

import sys

import torch
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.probes import interleaved, report
from image_classifier.networks.custom_resnet import CustomResNet
from image_classifier.project.params import CustomResNetParams

REPEATS = 3


def flops_per_image() -> float:
    """Floating-point operations of a training step: forward, and both gradients of every convolution and product."""
    net = CustomResNet(CustomResNetParams(network="custom_resnet", width=64, logit_scale=0.125), num_classes=10)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, 32, 32)).sum().backward()  # one image: Conv3x3 would pad several
    return float(counter.get_total_flops())


def main(side: int) -> None:
    """Report operations per second of a square product.

    Besides `torch.mm`, which for float32 is MKL's, the same product as a 1x1 convolution: that is oneDNN's, the library
    that computes the network's convolutions.
    """
    a, b = torch.randn(side, side), torch.randn(side, side)
    half_a, half_b = a.bfloat16(), b.bfloat16()
    image = a.t().reshape(1, side, side // 64, 64).contiguous(memory_format=torch.channels_last)
    kernel = b.reshape(side, side, 1, 1)
    with torch.inference_mode():
        times = interleaved(
            {
                "float32": lambda: torch.mm(a, b),
                "float32, oneDNN": lambda: conv2d(image, kernel),
                "bfloat16": lambda: torch.mm(half_a, half_b),
            },
            REPEATS,
        )
    rates = {name: 2 * side**3 / seconds["wall_seconds"] for name, seconds in times.items()}
    report({"flops_per_image": flops_per_image(), "flops_per_second": rates, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main(int(sys.argv[1]))
