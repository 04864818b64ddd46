"""PyTorch Lightning: a LightningModule and a Trainer with its default callbacks, logger and checkpoints."""

import os
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR
from torchmetrics.classification import MulticlassAccuracy

from benchmarks.peers.task import MOMENTUM, PEAK_LR, WEIGHT_DECAY, Task, read_task, say
from image_classifier.model.compute import native_precisions


class Classifier(L.LightningModule):
    """The network with its loss, metrics, optimizer and schedule."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.net = task.make_network()
        self.train_accuracy = MulticlassAccuracy(10, average="micro")
        self.test_accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.net(images)
        loss = F.cross_entropy(logits, labels)
        self.train_accuracy(logits, labels)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_accuracy", self.train_accuracy, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self.net(images)
        self.test_accuracy(logits, labels)
        self.log("test_loss", F.cross_entropy(logits, labels), prog_bar=True)
        self.log("test_accuracy", self.test_accuracy, prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = SGD(self.parameters(), lr=0.01, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
        schedule = OneCycleLR(optimizer, max_lr=PEAK_LR, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Lines(L.Callback):
    """Prints what the stopwatch waits for."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            say(f"EPOCH: {trainer.current_epoch + 1}")
        if batch_idx == trainer.num_training_batches - 1:
            say("Loss=")

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            say("Test set:")


if __name__ == "__main__":
    task = read_task()
    model = Classifier(task)
    precision = None
    if os.environ.get("TUNED"):
        model = model.to(memory_format=torch.channels_last)
        precision = "bf16-mixed" if "bf16" in native_precisions(torch.device("cpu")) else None
    L.Trainer(max_epochs=task.epochs, callbacks=[Lines()], precision=precision).fit(
        model, task.train_loader(), task.test_loader()
    )
