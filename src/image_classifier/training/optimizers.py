"""Optimizers: SGD for all weights, or Muon for the convolutions and SGD for the rest."""

from torch import Tensor, nn
from torch.optim import SGD, Muon, Optimizer

from image_classifier.model.network import Network
from image_classifier.project.params import TrainParams


def make_optimizers(net: Network, train: TrainParams) -> list[Optimizer]:
    """Optimizers that together own every weight; `set_learning_rate` gives them their rate before each step.

    With layer decay, SGD has a group for each layer, from the last to the first: Howard and Ruder 2018,
    arXiv:1801.06146; Clark et al. 2020, arXiv:2003.10555.
    """
    convolutions = [module.weight for module in net.modules() if isinstance(module, nn.Conv2d)]
    of_muon = set(convolutions if train.optimizer == "muon" else [])
    layers = net.layers()[::-1] if train.layer_decay < 1 else [list(net.parameters())]
    groups = [
        {"params": [weight for weight in layer if weight not in of_muon], "share": train.layer_decay**distance}
        for distance, layer in enumerate(layers)
    ]
    sgd = SGD(groups, lr=0.0, momentum=train.momentum, weight_decay=train.weight_decay, nesterov=True)
    return [sgd, ConvolutionMuon(convolutions, train)] if of_muon else [sgd]


def set_learning_rate(optimizers: list[Optimizer], lr: float) -> None:
    """Set the rate of the next step, of which a group of weights with a `share` gets that share."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("share", 1)


class ConvolutionMuon(Muon):
    """Muon for convolutions. It updates weights (C', C, H, W) as matrices (C', H * W * C) in the same memory.

    Each update is orthogonal, so that all directions learn alike. Products are bfloat16 on any hardware. Weight decay
    subtracts lr * weight_decay * weights, outside the momentum. Sources: https://kellerjordan.github.io/posts/muon
    and, for this kind of network, https://github.com/KellerJordan/cifar10-airbench.
    """

    def __init__(self, weights: list[Tensor], train: TrainParams) -> None:
        matrices = [nn.Parameter(_as_matrix(weight.detach()), requires_grad=False) for weight in weights]
        super().__init__(matrices, lr=0.0, momentum=train.momentum, weight_decay=train.weight_decay)
        for weight, matrix in zip(weights, matrices, strict=True):

            def share_gradient(weight: Tensor, matrix: Tensor = matrix) -> None:
                assert weight.grad is not None
                matrix.grad = _as_matrix(weight.grad)

            weight.register_post_accumulate_grad_hook(share_gradient)


def _as_matrix(weight: Tensor) -> Tensor:
    return weight.permute(0, 2, 3, 1).view(len(weight), -1)  # `view` never copies: it raises unless channels last
