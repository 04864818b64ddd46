"""Class activation maps: where in an image a network saw evidence for a class. By the grad-cam library."""

import copy

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from tqdm import tqdm

from image_classifier.data import Images
from image_classifier.model.inference import batch_size
from image_classifier.model.network import Network
from image_classifier.project.params import GradCAMParams
from image_classifier.system.errors import UserError

Maps = NDArray[np.float32]

# EigenCAM and EigenGradCAM are left out: they show a principal component, whose sign is arbitrary. On `layer2` of the
# demo's network, 41 and 42 % of the 359 test digits had less heat on the digit than chance. With the best rule tried
# for the sign, 16 and 39 % had less; with LayerCAM, none.
METHODS = {
    "gradcam": GradCAM,
    "gradcam++": GradCAMPlusPlus,
    "hirescam": HiResCAM,
    "xgradcam": XGradCAM,
    "layercam": LayerCAM,
}
HEAT_LEVELS = 32  # steps of colour; 2,000 maps of 8 px take 0.6 MB as PNG, and 0.8 MB with 64


def activation_maps(net: Network, images: Images, classes: NDArray[np.int64], params: GradCAMParams) -> Maps:
    """Maps (N, H, W) in 0..1 of the evidence for `classes[i]` in raw image i of `images`, uint8 (N, H, W, 3).

    Each map is enlarged bilinearly from the size of the layer, and stretched to 0..1 on its own, so two maps compare in
    shape, not in strength. A map without evidence is 0 everywhere. `net` stays unchanged.

    Raises:
        UserError: the network has no such layer.
    """
    # A copy gets the hooks. Its weights are frozen: only the images require gradients, which saves half of the backward
    # pass. Logits are not scaled, since the library's guards against division by 0 are absolute (1e-6, 1e-7).
    net = copy.deepcopy(net).eval().requires_grad_(False)
    net.logit_scale = 1.0
    device = net.mean.device
    cam = METHODS[params.method](net, [_layer(net, params.layer)])
    maps = [np.empty((0, *images.shape[1:3]), np.float32)]  # the result for no images
    size = max(1, batch_size(images.shape[1]) // 2)  # half, since the backward pass needs what the layers gave
    for start in tqdm(range(0, len(images), size), desc=params.method, leave=False, delay=2, disable=None):
        batch = torch.tensor(images[start : start + size], device=device)
        targets = [ClassifierOutputTarget(int(label)) for label in classes[start : start + size]]
        maps.append(cam(net.normalize(batch).requires_grad_(), targets))
    return np.concatenate(maps)


def _layer(net: Network, name: str) -> nn.Module:
    """The layer called `name`. A UserError if there is none: a model file may hold another network than params.yaml."""
    layers = net.gradcam_layers()
    if name not in layers:
        raise UserError(f"gradcam.layer is {name!r}; the network of this model allows {' | '.join(layers)}")
    return layers[name]


def map_size_px(net: Network, layer: str, image_px: int) -> int:
    """Side of a layer's own map, before it is enlarged."""
    sizes: list[int] = []
    hook = _layer(net, layer).register_forward_hook(lambda _, inputs, output: sizes.append(output.shape[-1]))
    with torch.inference_mode():
        net(net.normalize(torch.zeros(1, image_px, image_px, 3, dtype=torch.uint8, device=net.mean.device)))
    hook.remove()
    return sizes[0]


def heat_palette() -> NDArray[np.uint8]:
    """Colours (32, 4), RGBA, for map values from 0 to 1: transparent at 0, then from inferno's purple to its yellow.

    Inferno's lightness rises evenly, so it is readable in grey and with any colour vision. Its first quarter is left
    out: it is too dark to see on a dark image.
    """
    value = np.linspace(0, 1, HEAT_LEVELS)
    colours: NDArray[np.float64] = colormaps["inferno"](0.25 + 0.75 * value)
    colours[:, 3] = 0.85 * value
    palette: NDArray[np.uint8] = np.rint(255 * colours).astype(np.uint8)
    return palette


def heat_levels(maps: Maps) -> NDArray[np.uint8]:
    """Maps in 0..1 as indices into `heat_palette`."""
    return np.rint(maps * (HEAT_LEVELS - 1)).astype(np.uint8)


def overlay(images: Images, maps: Maps, opacity: float = 1.0) -> Images:
    """Heat over the images (N, H, W, 3). The images turn grey, so that all colour is heat.

    An `opacity` below 1 lets the coloured image through.
    """
    gray = images @ np.array([0.2126, 0.7152, 0.0722])  # luma, ITU-R BT.709, as CSS's grayscale()
    heat = heat_palette()[heat_levels(maps)]
    alpha = heat[..., 3:] / 255
    warm = alpha * heat[..., :3] + (1 - alpha) * gray[..., np.newaxis]
    blended: Images = np.rint(opacity * warm + (1 - opacity) * images).astype(np.uint8)
    return blended
