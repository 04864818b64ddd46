"""PyTorch-Ignite: a supervised trainer and evaluator with metrics, a progress bar and a scheduler."""

import torch.nn.functional as F
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import LRScheduler, ProgressBar
from ignite.metrics import Accuracy, Loss, RunningAverage
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.peers.task import MOMENTUM, PEAK_LR, WEIGHT_DECAY, read_task, say

if __name__ == "__main__":
    task = read_task()
    train_loader, test_loader = task.train_loader(), task.test_loader()
    model = task.make_network()
    optimizer = SGD(model.parameters(), lr=0.01, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    schedule = OneCycleLR(optimizer, max_lr=PEAK_LR, epochs=task.epochs, steps_per_epoch=len(train_loader))

    trainer = create_supervised_trainer(model, optimizer, F.cross_entropy)
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy(), "loss": Loss(F.cross_entropy)})
    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
    ProgressBar().attach(trainer, ["loss"])
    trainer.add_event_handler(Events.ITERATION_COMPLETED, LRScheduler(schedule))

    @trainer.on(Events.ITERATION_COMPLETED)
    def after_step(engine: Engine) -> None:
        """Print what the stopwatch waits for."""
        step = (engine.state.iteration - 1) % len(train_loader)
        if step == 0:
            say(f"EPOCH: {engine.state.epoch}")
        if step == len(train_loader) - 1:
            say("Loss=")

    @trainer.on(Events.EPOCH_COMPLETED)
    def evaluate(engine: Engine) -> None:
        """Measure the test set."""
        evaluator.run(test_loader)
        say(f"Test set: {evaluator.state.metrics}")

    trainer.run(train_loader, max_epochs=task.epochs)
