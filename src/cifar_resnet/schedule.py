"""The one-cycle learning-rate schedule, as a pure function of the position in training."""


def one_cycle(epoch: float, *, epochs: int, peak_epoch: float, lr_min: float, lr_max: float) -> float:
    """Learning rate at a position in training, which is `epoch` epochs old (fractions count).

    Linear from `lr_min` up to `lr_max` at `peak_epoch`, then linear back to `lr_min` at the end. There is no third
    phase below `lr_min` ("no annihilation"). Source: Smith and Topin 2018, https://arxiv.org/abs/1708.07120.
    """
    if epoch <= peak_epoch:
        fraction = epoch / peak_epoch
    else:
        fraction = (epochs - epoch) / (epochs - peak_epoch)
    return lr_min + (lr_max - lr_min) * fraction
