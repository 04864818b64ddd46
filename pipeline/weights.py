"""Stage `weights`: the weights that the training starts from, fetched and checked, and whether the network fits."""

import torch

from image_classifier.model.network import Network, make_network
from image_classifier.model.start_file import read_published, read_trained, write_start
from image_classifier.project import locations
from image_classifier.project.params import DataParams, GradCAMParams, ModelParams, TrainParams
from image_classifier.system.errors import UserError
from pipeline.stage import main

ANY_NUMBER = 2  # of classes: the head is made anew for those of the data set


def run(data: DataParams, model: ModelParams, train: TrainParams, gradcam: GradCAMParams) -> None:
    """Write the weights' file, an empty one for a start from random weights.

    A UserError if the weights cannot be fetched or read or are of another network, if the network cannot take images of
    this size, or if it has no such layer for Grad-CAM.
    """
    net = make_network(model, ANY_NUMBER, (0.5,) * 3, (0.5,) * 3)
    require_fit(net, data.image_px, gradcam.layer)
    if train.start_from == "random":
        write_start(locations.START, {})
        return
    if train.start_from == "pretrained":
        file = net.published_weights(locations.DATA / "weights.downloads")
    else:
        file = locations.WEIGHTS / train.start_from
        if file.is_symlink() or not file.is_file():
            raise UserError(
                f"train.start_from is {train.start_from}, and {file} is no file: copy it there, or choose "
                "random or pretrained"
            )
    if file.suffix == ".pt":
        write_start(locations.START, *read_trained(model, file))
    else:
        write_start(locations.START, read_published(net, ANY_NUMBER, file))
    print(f"{locations.START}: from {file}")


def require_fit(net: Network, image_px: int, layer: str) -> None:
    """Raise a UserError if the network cannot take images of this size, or the layer gives no maps for Grad-CAM."""
    layers = net.gradcam_layers()
    if layer not in layers:
        raise UserError(f"gradcam.layer is {layer!r}; this network allows {' | '.join(layers) or 'none'}")
    shapes: list[tuple[int, ...]] = []
    layers[layer].register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    try:
        with torch.inference_mode():
            net.eval()(torch.zeros(1, 3, image_px, image_px))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"data.image_px is {image_px}, which this network cannot take: {reason}") from None
    if len(shapes[0]) != 4 or shapes[0][2] != shapes[0][3]:
        raise UserError(
            f"gradcam.layer is {layer}, which gives no maps in this network: choose a convolutional network"
        )


if __name__ == "__main__":
    main(run, __doc__)
