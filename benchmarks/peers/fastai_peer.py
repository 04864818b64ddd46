"""fastai: a Learner on PyTorch data loaders (https://docs.fast.ai/migrating_pytorch.html), and fit_one_cycle."""

from functools import partial

from fastai.callback.core import Callback
from fastai.callback.schedule import Learner  # with fit_one_cycle, which this module adds
from fastai.data.core import DataLoaders
from fastai.metrics import accuracy
from fastai.optimizer import OptimWrapper
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from benchmarks.peers.task import MOMENTUM, PEAK_LR, WEIGHT_DECAY, read_task, say


class Lines(Callback):
    """Prints what the stopwatch waits for."""

    def after_batch(self) -> None:
        if self.training and self.iter == 0:
            say(f"EPOCH: {self.epoch + 1}")

    def after_train(self) -> None:
        say("Loss=")

    def after_validate(self) -> None:
        say("Test set:")


if __name__ == "__main__":
    task = read_task()
    learner = Learner(
        DataLoaders(task.train_loader(), task.test_loader()),
        task.make_network(),
        loss_func=cross_entropy,
        opt_func=partial(OptimWrapper, opt=SGD, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True),
        metrics=accuracy,
        cbs=Lines(),
    )
    learner.fit_one_cycle(task.epochs, PEAK_LR)
