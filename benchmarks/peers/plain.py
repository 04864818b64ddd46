"""The loop of the assignment's notebooks: eager, float32, NCHW, PyTorch's and glibc's defaults."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from tqdm import tqdm

from benchmarks.peers.task import MOMENTUM, PEAK_LR, WEIGHT_DECAY, Task, read_task, say


def train(
    model: nn.Module, loader: DataLoader[tuple[Tensor, int]], optimizer: SGD, scheduler: OneCycleLR, epoch: int
) -> None:
    """Learn from every batch once."""
    model.train()
    progress = tqdm(loader)
    correct = processed = 0
    for batch_id, (data, target) in enumerate(progress):
        optimizer.zero_grad()
        output = model(data)
        loss = F.cross_entropy(output, target)
        loss.backward()
        optimizer.step()
        scheduler.step()
        correct += output.argmax(dim=1).eq(target).sum().item()
        processed += len(data)
        progress.set_description(f"Loss={loss.item()} Batch_id={batch_id} Accuracy={100 * correct / processed:0.2f}")
        if batch_id == 0:
            say(f"EPOCH: {epoch}")
    say(f"Loss={loss.item()}")


def test(model: nn.Module, loader: DataLoader[tuple[Tensor, int]]) -> None:
    """Measure loss and accuracy."""
    model.eval()
    test_loss = 0.0
    correct = 0
    with torch.no_grad():
        for data, target in loader:
            output = model(data)
            test_loss += F.cross_entropy(output, target, reduction="sum").item()
            correct += output.argmax(dim=1).eq(target).sum().item()
    say(f"Test set: Average loss: {test_loss}, Accuracy: {correct}")


def run(task: Task, model: nn.Module, max_lr: float = PEAK_LR, **schedule: Any) -> None:
    """Train for the task's epochs, on a schedule that PyTorch's OneCycleLR knows."""
    train_loader, test_loader = task.train_loader(), task.test_loader()
    optimizer = SGD(model.parameters(), lr=0.01, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    scheduler = OneCycleLR(optimizer, max_lr, epochs=task.epochs, steps_per_epoch=len(train_loader), **schedule)
    for epoch in range(1, task.epochs + 1):
        train(model, train_loader, optimizer, scheduler, epoch)
        test(model, test_loader)


if __name__ == "__main__":
    task = read_task()
    run(task, task.make_network())
