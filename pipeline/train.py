"""Stage `train`: the one-cycle training, which a killed run goes on with from its last checkpoint."""

import json
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cifar_resnet import layout
from cifar_resnet.checkpoint import Checkpoint, training_key
from cifar_resnet.compute import Compute, prepare_compute
from cifar_resnet.console import TrainingConsole
from cifar_resnet.data import load_dataset
from cifar_resnet.distributed import is_worker, run_in_processes, wait_for_others
from cifar_resnet.errors import UserError
from cifar_resnet.history import write_history
from cifar_resnet.lr_range import read_found_rates
from cifar_resnet.params import (
    AugmentParams,
    ComputeParams,
    DataParams,
    ModelParams,
    RuntimeParams,
    TrainParams,
    load_params,
)  # fmt: skip
from cifar_resnet.tracking import live_training
from cifar_resnet.training import LearningRates, TrainingState, check_finite, fit, make_training_data, start_training
from pipeline.stage import main


def run(
    data: DataParams, augment: AugmentParams, model: ModelParams, train: TrainParams, compute: ComputeParams,
    runtime: RuntimeParams,
) -> None:  # fmt: skip
    """Write the weights, the history of the epochs and the last figures."""
    if compute.processes > 1 and not is_worker():
        run_in_processes("pipeline.train", compute.processes)
        return
    resolved = prepare_compute(compute)
    dataset = load_dataset(layout.DATA / data.dataset)
    training_data = make_training_data(dataset, data, augment)
    rates = choose_rates(train)
    state = start_training(dataset, model, train, train.seed, resolved)
    facts = {"stage": Path(__file__).read_text(encoding="utf-8"), "rates": vars(rates), "compute": str(resolved)}
    checkpoint = Checkpoint(training_key([data, augment, model, train], layout.DATA / data.dataset, facts))
    epochs = partial(fit, state, training_data, train, rates, resolved, num_workers(runtime, resolved))
    if resolved.rank > 0:  # the first process speaks and writes for all
        wait_for_others()
        resume(state, checkpoint)
        for _ in epochs(after_step=lambda loss, num_steps: None):
            pass
        return

    console = TrainingConsole(state, len(training_data.held_out_labels))

    def after_step(loss: Tensor, num_steps: int) -> None:
        console.after_step(loss, num_steps)
        if state.step % runtime.checkpoint_steps == 0 and state.step < num_steps:
            check_finite(state)
            checkpoint.save(state.state_dict())

    with checkpoint.lock():
        checkpoint.remove_old()
        resume(state, checkpoint)
        wait_for_others()
        print(f"training on {resolved}: learning rate {rates.lr_min:.4g} to {rates.lr_max:.4g}\n", flush=True)
        with live_training(load_params(layout.PARAMS), state.history) as live:
            for metrics in epochs(after_step=after_step):
                checkpoint.save(state.state_dict())
                console.after_epoch(metrics)
                live.log_epoch(metrics)
        write_outputs(state, rates)
        checkpoint.finish(layout.MODEL)


def resume(state: TrainingState, checkpoint: Checkpoint) -> None:
    """Go on from the checkpoint, if there is one."""
    if saved := checkpoint.load():
        state.load_state_dict(saved)
        print(f"going on from the checkpoint after {state.epoch} epochs and {state.step} steps", flush=True)


def choose_rates(train: TrainParams) -> LearningRates:
    """The given learning rates, or those that stage lr_find found.

    Raises:
        UserError: a given rate and a found one are in the wrong order.
    """
    found = read_found_rates(layout.LR_FOUND)
    lr_min = found.lr_min if train.lr_min == "find" else train.lr_min
    lr_max = found.lr_max if train.lr_max == "find" else train.lr_max
    if lr_min >= lr_max:
        raise UserError(f"train.lr_min is {lr_min:.4g}; it must be below train.lr_max, {lr_max:.4g}")
    return LearningRates(lr_min, lr_max)


def num_workers(runtime: RuntimeParams, compute: Compute) -> int:
    """Loader processes. On a CPU they would take the cores from the training, of which they need 2 %."""
    if runtime.workers == "auto":
        return min(4, compute.threads) if compute.device.type == "cuda" else 0
    return runtime.workers


def write_outputs(state: TrainingState, rates: LearningRates) -> None:
    """Write what DVC tracks of a finished training."""
    layout.MODEL.parent.mkdir(parents=True, exist_ok=True)
    layout.HISTORY.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.cpu().contiguous() for name, value in state.model.state_dict().items()}
    torch.save(weights, layout.MODEL)
    write_history(layout.HISTORY, state.history)
    last = state.history[-1].as_row()
    metrics = {"epochs": last.pop("epoch"), **vars(rates), **last}
    del metrics["lr"]
    layout.TRAIN_METRICS.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(run)
