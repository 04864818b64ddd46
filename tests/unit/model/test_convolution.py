"""Convolutions of small maps give the same results as PyTorch's."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from image_classifier.model.convolution import Conv3x3

SHAPES = {
    "narrow": (32, 8, 4, 4),
    "narrow, no 16 in a row": (12, 8, 4, 4),
    "one image": (1, 8, 4, 4),
    "wide": (16, 8, 16, 16),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_outputs_and_gradients_are_those_of_a_plain_convolution(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    conv = Conv3x3(shape[1], 6)
    images = torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()

    outputs = conv(images)
    (outputs**2).sum().backward()

    exact, exact_images, exact_weight = convolve_in_double(images, conv.weight)
    assert outputs.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(outputs.double(), exact, rtol=1e-5, atol=1e-5)
    assert images.grad is not None
    assert conv.weight.grad is not None
    torch.testing.assert_close(images.grad.double(), exact_images, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(conv.weight.grad.double(), exact_weight, rtol=1e-4, atol=1e-3)


def test_bfloat16_maps_of_eight_pixels_equal_those_of_a_plain_convolution() -> None:
    torch.manual_seed(0)
    conv = Conv3x3(8, 6).bfloat16()
    images = torch.randn(32, 8, 8, 8, dtype=torch.bfloat16)

    outputs = conv(images)

    torch.testing.assert_close(outputs, F.conv2d(images, conv.weight, padding=1), rtol=2**-7, atol=2**-7)


def convolve_in_double(images: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, and the gradients of the sum of their squares by images and weight."""
    images, weight = (tensor.detach().double().requires_grad_() for tensor in (images, weight))
    outputs = F.conv2d(images, weight, padding=1)
    of_images, of_weight = torch.autograd.grad((outputs**2).sum(), (images, weight))
    return outputs.detach(), of_images, of_weight
