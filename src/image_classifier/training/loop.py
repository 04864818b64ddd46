"""The training loop, on a one-cycle schedule."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from image_classifier.data import Dataset, Images, split_validation
from image_classifier.model.compute import Compute, native_precisions
from image_classifier.model.distributed import share_gradients, sum_over_processes
from image_classifier.model.inference import predict_logits
from image_classifier.model.network import Network, make_network
from image_classifier.model.start_file import load_start
from image_classifier.outputs.history import EpochMetrics
from image_classifier.project import locations
from image_classifier.project.params import MIN_PX, AugmentParams, DataParams, ModelParams, TrainParams
from image_classifier.system.errors import UserError
from image_classifier.training.augment import Augmentation
from image_classifier.training.batches import Augment, EpochBatches
from image_classifier.training.ghost_batches import use_ghost_batches
from image_classifier.training.optimizers import make_optimizers, set_learning_rate


@dataclass(frozen=True)
class LearningRates:
    """The lowest and the highest learning rate of the cycle, found or given."""

    lr_min: float
    lr_max: float


@dataclass(frozen=True)
class TrainingData:
    """Images to train on, and held-out images to follow the training with."""

    images: Images
    labels: NDArray[np.int64]
    augment: Augment
    held_out_images: Images
    held_out_labels: NDArray[np.int64]
    held_out_name: str


@dataclass
class TrainingState:
    """All that a resumed training needs. No random state is kept: it follows from the seed, epoch and step."""

    net: Network
    optimizers: list[Optimizer]
    scaler: GradScaler
    totals: Tensor  # of this epoch: sum of the losses, number of right predictions, number of images
    epoch: int = 0  # epochs finished
    step: int = 0  # steps finished in this epoch
    history: list[EpochMetrics] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.forward: Callable[[Tensor], Tensor] = self.net  # or the same network compiled, or shared with processes

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return cast(float, self.optimizers[0].param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Only tensors, numbers and text, so that loading it needs no unpickling of code."""
        return {
            "net": self.net.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "totals": self.totals,
            "epoch": self.epoch,
            "step": self.step,
            "history": [asdict(metrics) for metrics in self.history],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.net.load_state_dict(saved["net"])
        for optimizer, its_state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)
        if saved["scaler"]:  # an idle one has no state
            self.scaler.load_state_dict(saved["scaler"])
        self.totals.copy_(saved["totals"])
        self.epoch, self.step = saved["epoch"], saved["step"]
        self.history = [EpochMetrics(**metrics) for metrics in saved["history"]]


def make_training_data(dataset: Dataset, data: DataParams, augment: AugmentParams) -> TrainingData:
    """Hold out validation images, at most half; if none are set, the test set, which chooses nothing, is held out."""
    images, labels = dataset.train_images, dataset.train_labels
    if data.validation_images > (most := len(labels) // 2):
        raise UserError(
            f"data.validation_images is {data.validation_images}; with {len(labels):,} training images it "
            f"can be at most {most}"
        )
    held_out = dataset.test_images, dataset.test_labels, "test"
    if data.validation_images:
        kept, out = split_validation(labels, data.validation_images, data.split_seed)
        held_out = images[out], labels[out], "validation"
        images, labels = images[kept], labels[kept]
    return TrainingData(images, labels, Augmentation(augment, dataset.mean, dataset.image_px), *held_out)


def require_workable(train: TrainParams, augment: AugmentParams, data: TrainingData) -> None:
    """Raise a UserError for settings that are valid on their own, but do not work with these images."""
    num_images = len(data.labels)
    if num_images < train.batch_size:
        raise UserError(f"train.batch_size is {train.batch_size}; there are {num_images} training images")
    most_px = data.images.shape[1] - 1
    if augment.cutout > most_px:
        raise UserError(f"augment.cutout is {augment.cutout}; allowed for images of {most_px + 1} px: 0 to {most_px}")
    if train.early_epochs and (side := early_px(train, most_px + 1)) < MIN_PX:
        raise UserError(
            f"train.early_scale is {train.early_scale}; it would make images of {side} px; allowed: from {MIN_PX} px, "
            "or no early epochs, by train.early_epochs 0"
        )


def early_px(train: TrainParams, image_px: int) -> int:
    """Side of the images in the early epochs, in pixels."""
    return round(train.early_scale * image_px)


def one_cycle(epoch: float, *, epochs: int, peak_epoch: float, lr_min: float, lr_max: float) -> float:
    """Learning rate after `epoch` epochs of training, which may be a fraction.

    Linear from `lr_min` up to `lr_max` at `peak_epoch`, then linear back to `lr_min` at the end. There is no third
    phase below `lr_min` ("no annihilation"). Source: Smith and Topin 2018, https://arxiv.org/abs/1708.07120.
    """
    if epoch <= peak_epoch:
        fraction = epoch / peak_epoch
    else:
        fraction = (epochs - epoch) / (epochs - peak_epoch)
    return lr_min + (lr_max - lr_min) * fraction


@dataclass(frozen=True)
class Trainer:
    """Trains a network, by the settings, the learning rates of the cycle and the choices of `compute`."""

    settings: TrainParams
    rates: LearningRates
    compute: Compute
    num_workers: int = 0  # processes that prepare batches

    def start(self, dataset: Dataset, model: ModelParams, seed: int) -> TrainingState:
        """A network with its optimizer, before the first step.

        Its weights follow from the seed, but those that stage `download` has put in place for `train.start_from`.
        """
        train, device = self.settings, self.compute.device
        if train.optimizer == "muon" and "bf16" not in native_precisions(device) and self.compute.rank == 0:
            print(
                f"warning: train.optimizer is muon, whose products are bf16, which this {device.type} has to emulate:"
                " slow",
                file=sys.stderr,
            )
        torch.manual_seed(seed)
        net = make_network(model, len(dataset.classes), dataset.mean, dataset.std)
        if train.start_from != "random":
            load_start(net, locations.START, dataset.classes)
            net.keeps_statistics = True
        net = self.compute.place(net)
        if train.ghost_batch:
            use_ghost_batches(net, train.ghost_batch)
        totals = torch.zeros(3, dtype=torch.float64, device=device)
        return TrainingState(net, make_optimizers(net, train), self.compute.gradient_scaler(), totals)

    def epochs(
        self, state: TrainingState, data: TrainingData, after_step: Callable[[Tensor, int], None]
    ) -> Iterator[EpochMetrics]:
        """Train from `state` to the last epoch; yields the metrics of each. A UserError if it diverges.

        `after_step` gets the loss of each step and the number of steps in the epoch.
        """
        train, compute = self.settings, self.compute
        net = share_gradients(state.net, compute.device) if compute.num_processes > 1 else state.net
        state.forward = compute.compiled(net)
        while state.epoch < train.epochs:
            state.net.train()
            order = (train.batch_size, train.seed, state.epoch, compute.rank, compute.num_processes)
            batches = EpochBatches(data.images, data.labels, data.augment, *order)
            for images, labels in batches.load(state.step, self.num_workers, pin_memory=compute.device.type == "cuda"):
                progress = state.epoch + state.step / len(batches)
                lr = one_cycle(progress, epochs=train.epochs, peak_epoch=train.peak_epoch, **vars(self.rates))
                set_learning_rate(state.optimizers, lr)
                loss = self.step(state, images, labels, batches.size(state.step))
                state.step += 1
                after_step(loss, len(batches))
            yield self._finish_epoch(state, data)

    def step(self, state: TrainingState, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
        """Learn from this process's share of a batch, uint8 (N, H, W, 3) and int64 (N,).

        Returns the loss, still on the device: the sum over the N images, times the number of processes, divided by
        `batch_size`.
        """
        images = images.to(self.compute.device, non_blocking=True)
        labels = labels.to(self.compute.device, non_blocking=True)
        inputs = state.net.normalize(images)
        if state.epoch < self.settings.early_epochs:
            side = early_px(self.settings, images.shape[1])
            inputs = F.interpolate(inputs, size=side, mode="bilinear", antialias=True)
        with self.compute.autocast():
            logits = state.forward(inputs)
        smoothing = self.settings.label_smoothing
        loss_sum = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing, reduction="sum")
        loss = loss_sum * (self.compute.num_processes / batch_size)  # gradients are averaged over the processes
        state.net.zero_grad()
        for optimizer in state.optimizers:
            optimizer.zero_grad()
        state.scaler.scale(loss).backward()
        # In float16 an optimizer whose gradients overflowed skips its step; the cycle goes on.
        for optimizer in state.optimizers:
            state.scaler.step(optimizer)
        state.scaler.update()

        num_correct = (logits.argmax(dim=1) == labels).sum()
        sums = torch.stack([loss_sum.detach(), num_correct, torch.full_like(num_correct, len(labels))])
        state.totals += sum_over_processes(sums)  # equal in all processes, so one checkpoint is enough
        return loss.detach()

    def _finish_epoch(self, state: TrainingState, data: TrainingData) -> EpochMetrics:
        check_finite(state)
        loss_sum, num_correct, num_images = state.totals.tolist()
        # The last epoch is measured in full precision, as in stage `evaluate`, so that one model has one accuracy.
        is_last = state.epoch + 1 == self.settings.epochs
        compute = replace(self.compute, precision=torch.float32) if is_last else self.compute
        held_out_loss_sum, num_held_out_correct = evaluate_held_out(state.net, data, compute)
        if not isfinite(held_out_loss_sum):
            raise _diverged(state, f"the {data.held_out_name} loss is {held_out_loss_sum}")
        num_held_out = len(data.held_out_labels)
        metrics = EpochMetrics(
            state.epoch + 1,
            state.lr,
            loss_sum / num_images,
            num_correct / num_images,
            held_out_loss_sum / num_held_out,
            num_held_out_correct / num_held_out,
            data.held_out_name,
        )
        state.epoch, state.step = state.epoch + 1, 0
        state.totals.zero_()
        state.history.append(metrics)
        return metrics


def evaluate_held_out(net: Network, data: TrainingData, compute: Compute) -> tuple[float, float]:
    """Sum of the losses and number of right predictions over all held-out images; each process evaluates its share."""
    share = slice(compute.rank, None, compute.num_processes)
    labels = torch.tensor(data.held_out_labels[share])
    logits = torch.from_numpy(predict_logits(net, data.held_out_images[share], compute))
    loss_sum = F.cross_entropy(logits, labels, reduction="sum").double()
    sums = torch.stack([loss_sum, (logits.argmax(dim=1) == labels).sum()]).to(compute.device)
    total_loss, num_correct = sum_over_processes(sums).tolist()
    return total_loss, num_correct


def check_finite(state: TrainingState) -> None:
    """Stop a training that has diverged, by a UserError: its loss, weights and statistics must be finite."""
    if not torch.isfinite(state.totals[0]):
        raise _diverged(state, f"the loss is {state.totals[0].item()}")
    for name, values in state.net.state_dict().items():
        if not values.isfinite().all():
            raise _diverged(state, f"{name} is not finite")


def _diverged(state: TrainingState, reason: str) -> UserError:
    return UserError(
        f"training diverged in epoch {state.epoch + 1}: {reason} at learning rate {state.lr:.4g}; lower train.lr_max, "
        "or model.logit_scale if it is above 0.125"
    )
