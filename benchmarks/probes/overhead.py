"""What stage `train` adds to bare training steps: paired with them in one process, in a prepared workspace.

The loop's steps and bare steps on a ready batch take turns, so a slow minute of the machine slows both.
"""

import time
from statistics import median

import torch
from torch import Tensor

from benchmarks.probes import interleaved, report
from image_classifier.data import load_dataset
from image_classifier.model.compute import prepare_compute
from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.params import load_params
from image_classifier.tracking.console import TrainingConsole
from image_classifier.tracking.live import live_training
from image_classifier.training.checkpoint import Checkpoint
from image_classifier.training.loop import LearningRates, Trainer, evaluate_held_out, make_training_data
from image_classifier.training.optimizers import set_learning_rate

REPEATS = 3


def main() -> None:
    """Report the CPU seconds of each part."""
    params = load_params(locations.PARAMS)
    compute = prepare_compute(params.compute)
    dataset = load_dataset(locations.DATA / params.data.dataset)
    data = make_training_data(dataset, params.data, params.augment)
    trainer = Trainer(params.train, LearningRates(0.01, 0.1), compute)
    state, bare = (trainer.start(dataset, params.model, 0) for _ in range(2))
    size = params.train.batch_size
    images, labels = torch.tensor(data.images[:size]), torch.tensor(data.labels[:size])
    console = TrainingConsole(state, len(data.held_out_labels))
    set_learning_rate(bare.optimizers, 0.01)
    pairs: list[tuple[float, float]] = []
    started = 0.0

    def after_step(loss: Tensor, num_steps: int) -> None:
        nonlocal started
        console.after_step(loss, num_steps)
        in_loop = time.process_time()
        bare.net.train()
        trainer.step(bare, images, labels, size)
        alone = time.process_time()
        pairs.append((in_loop - started, alone - in_loop))
        started = time.process_time()

    for _ in trainer.epochs(state, data, after_step):
        started = time.process_time()

    checkpoint = Checkpoint("benchmark")
    checkpoint.folder.mkdir(parents=True, exist_ok=True)
    project = read_project()
    with live_training(project, project.inputs("train"), []) as live:

        def log() -> None:
            live.logged.clear()
            live.log_epoch(state.history[-1])
            console.after_epoch(state.history[-1])

        parts = interleaved(
            {
                "checkpoint": lambda: checkpoint.save(state.state_dict()),
                "logging": log,
                "evaluation": lambda: evaluate_held_out(state.net, data, compute),
            },
            REPEATS,
        )
    report(
        {
            "bare_step": median(alone for _, alone in pairs[1:]),
            "step_in_loop": median(in_loop for in_loop, _ in pairs[1:]),
            "loop_over_bare": median(in_loop / alone for in_loop, alone in pairs[1:]),
            "checkpoint": parts["checkpoint"]["cpu_seconds"],
            "logging": parts["logging"]["cpu_seconds"],
            "evaluated_image": parts["evaluation"]["cpu_seconds"] / len(data.held_out_labels),
        }
    )


if __name__ == "__main__":
    main()
