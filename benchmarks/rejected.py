"""`python -m benchmarks.rejected`: what was tried for speed and is not in the product, timed against what is.

Winograd convolutions, and torch.compile on a CPU, on one core. The figures belong in README.md beside this file.
"""

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.probes import interleaved
from benchmarks.workspace import PROJECT
from image_classifier.data import Dataset
from image_classifier.model.compute import Compute, prepare_compute
from image_classifier.model.convolution import Conv3x3
from image_classifier.project.params import ComputeParams, CustomResNetParams, load_params
from image_classifier.training.loop import LearningRates, Trainer
from image_classifier.training.optimizers import set_learning_rate

BATCH_SIZE = 128
WIDTH = 64
REPEATS = 3

# Input channels, output channels and side of every convolution with 64 or more input channels.
CONVOLUTIONS = ((64, 128, 32), (128, 128, 16), (128, 256, 16), (256, 512, 8), (512, 512, 4))

# F(4x4, 3x3) of Lavin and Gray 2015, arXiv:1509.09308: of the input, the kernel and the output.
INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
Matrix = tuple[tuple[float, ...], ...]


def combine(matrix: Matrix, parts: list[Tensor]) -> list[Tensor]:
    """A product of a small constant matrix and a column of tensors, written as sums for the compiler to fuse."""
    return [
        sum((factor * part for factor, part in zip(row, parts, strict=True) if factor), start=torch.zeros(()))
        for row in matrix
    ]


def both_sides(matrix: Matrix, grid: list[list[Tensor]]) -> list[list[Tensor]]:
    """A small constant matrix on the left of a grid of tensors, and its transpose on the right."""
    columns = [combine(matrix, list(column)) for column in zip(*grid, strict=True)]
    return [combine(matrix, list(row)) for row in zip(*columns, strict=True)]


def to_tiles(images: Tensor) -> Tensor:
    """Images (N, H, W, C) to their transformed 6x6 tiles (36, N * H / 4 * W / 4, C)."""
    padded = F.pad(images, (0, 0, 1, 1, 1, 1))
    height, width = images.shape[1:3]
    grid = [[padded[:, i : i + height - 3 : 4, j : j + width - 3 : 4] for j in range(6)] for i in range(6)]
    return torch.stack([tile for row in both_sides(INPUT, grid) for tile in row]).flatten(1, 3)


def from_tiles(products: Tensor, height: int, width: int) -> Tensor:
    """Transformed tiles (36, N * H / 4 * W / 4, C) to images (N, H, W, C)."""
    tiles = products.view(6, 6, -1, height // 4, width // 4, products.shape[-1])
    grid = both_sides(OUTPUT, [list(row) for row in tiles])
    rows = torch.stack([torch.stack(row, dim=3) for row in grid], dim=2)  # (N, H / 4, 4, W / 4, 4, C)
    return rows.reshape(-1, height, width, products.shape[-1])


def kernel_tiles(kernels: Tensor) -> Tensor:
    """Kernels (K, C, 3, 3) to their transforms (36, C, K)."""
    matrix = torch.tensor(KERNEL)
    return torch.einsum("ia,kcab,jb->ijck", matrix, kernels, matrix).flatten(0, 1).contiguous()


def winograd_times(channels: int, out_channels: int, side: int, precision: torch.dtype) -> dict[str, float]:
    """CPU seconds of the forward pass of a convolution: the product's, Winograd's, and the latter's products alone."""
    images = torch.randn(BATCH_SIZE, channels, side, side).contiguous(memory_format=torch.channels_last)
    kernels = torch.randn(out_channels, channels, 3, 3) / (3 * channels**0.5)
    transformed = kernel_tiles(kernels).to(precision)
    split, join = torch.compile(to_tiles), torch.compile(from_tiles)
    rows = images.permute(0, 2, 3, 1)
    tiles = split(rows).to(precision)

    def winograd() -> Tensor:
        return join(torch.bmm(split(rows).to(precision), transformed).float(), side, side)

    exact = F.conv2d(images, kernels, padding=1)
    error = (winograd().permute(0, 3, 1, 2) - exact).norm() / exact.norm()
    native = images.to(precision)
    conv = Conv3x3(channels, out_channels).to(precision).to(memory_format=torch.channels_last)
    times = interleaved(
        {
            "direct": lambda: conv(native),
            "winograd": winograd,
            "products alone": lambda: torch.bmm(tiles, transformed),
        },
        REPEATS,
    )
    return {name: seconds["cpu_seconds"] for name, seconds in times.items()} | {"relative error": float(error)}


def compile_times(precision: str) -> dict[str, float]:
    """CPU seconds of a training step, eager and compiled."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (BATCH_SIZE, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, BATCH_SIZE)
    half = (0.5, 0.5, 0.5)  # mean and standard deviation
    dataset = Dataset("random", tuple("0123456789"), half, half, images, labels, images, labels)
    steps = {
        choice: training_step(dataset, prepare_compute(compute_params(precision, choice))) for choice in ("off", "on")
    }
    times = interleaved({f"compile {choice}": step for choice, step in steps.items()}, REPEATS)
    return {name: seconds["cpu_seconds"] for name, seconds in times.items()}


def training_step(dataset: Dataset, compute: Compute) -> Callable[[], Tensor]:
    """The product's training step on one batch."""
    train = load_params(PROJECT / "params.yaml").train.model_copy(update={"optimizer": "sgd", "early_epochs": 0})
    model = CustomResNetParams(network="custom_resnet", width=WIDTH, logit_scale=0.125)
    trainer = Trainer(train, LearningRates(0.01, 0.1), compute)
    state = trainer.start(dataset, model, seed=0)
    state.net.train()
    set_learning_rate(state.optimizers, 0.01)
    if compute.compile:
        state.net.compile()
    batch = torch.tensor(dataset.train_images), torch.tensor(dataset.train_labels)
    return partial(trainer.step, state, *batch, BATCH_SIZE)


def compute_params(precision: str, choice: str) -> ComputeParams:
    """Settings of the product's compute section."""
    return ComputeParams.model_validate(
        {"device": "cpu", "precision": precision, "compile": choice, "threads": 1, "processes": 1}
    )


if __name__ == "__main__":
    prepare_compute(compute_params("fp32", "off"))
    with torch.inference_mode():
        for precision in (torch.float32, torch.bfloat16):
            for shape in CONVOLUTIONS:
                print(shape, precision, json.dumps(winograd_times(*shape, precision)), flush=True)
    for name in ("fp32", "bf16"):
        print("training step", name, json.dumps(compile_times(name)), flush=True)
