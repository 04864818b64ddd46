"""Stage `train`: the one-cycle training; after a kill it continues from its last checkpoint."""

import torch
from torch import Tensor

from image_classifier.data import load_dataset
from image_classifier.model.compute import Compute, prepare_compute
from image_classifier.model.distributed import is_worker, run_in_processes, wait_for_others
from image_classifier.model.model_file import save_model
from image_classifier.outputs.history import write_history
from image_classifier.outputs.rates import read_found_rates
from image_classifier.project import locations
from image_classifier.project.definition import Inputs, Project
from image_classifier.project.keys import training_key
from image_classifier.project.params import (
    AugmentParams,
    ComputeParams,
    DataParams,
    ModelParams,
    RuntimeParams,
    TrainParams,
)
from image_classifier.project.records import changed_since, require_as_imported, require_not_rewritten
from image_classifier.system.errors import UserError
from image_classifier.system.files import write_json
from image_classifier.tracking.console import TrainingConsole
from image_classifier.tracking.live import live_training
from image_classifier.training.checkpoint import Checkpoint
from image_classifier.training.loop import (
    LearningRates,
    Trainer,
    TrainingData,
    TrainingState,
    check_finite,
    make_training_data,
    require_workable,
)
from pipeline import IMPORTED
from pipeline.stage import main


def run(
    data: DataParams,
    augment: AugmentParams,
    model: ModelParams,
    train: TrainParams,
    compute: ComputeParams,
    project: Project,
    inputs: Inputs,
) -> None:
    """Write the weights, the history of the epochs and the last figures."""
    if compute.processes > 1 and not is_worker():
        run_in_processes("pipeline.train", compute.processes)
        return
    resolved = prepare_compute(compute)
    dataset = load_dataset(locations.DATA / data.dataset)
    training_data = make_training_data(dataset, data, augment)
    require_workable(train, augment, training_data)
    rates = choose_rates(train)
    trainer = Trainer(train, rates, resolved, loader_processes(project.params.runtime, resolved))
    state = trainer.start(dataset, model, train.seed)
    require_as_imported(inputs, IMPORTED)  # the network's module, too: no checkpoint may hold what other code learnt
    checkpoint = Checkpoint(training_key(inputs)[:16])
    if resolved.rank > 0:
        assist(trainer, state, training_data, checkpoint)
        return
    with checkpoint.lock():
        checkpoint.remove_old()
        lead(trainer, state, training_data, checkpoint, project, inputs)
        save_model(locations.MODEL, state.net, model, dataset)
        write_history(locations.HISTORY, state.history)
        last = state.history[-1].as_row()
        del last["lr"]
        write_json(locations.TRAIN_METRICS, {"epochs": last.pop("epoch"), **vars(rates), **last})
        checkpoint.finish(locations.MODEL)


def lead(
    trainer: Trainer,
    state: TrainingState,
    data: TrainingData,
    checkpoint: Checkpoint,
    project: Project,
    inputs: Inputs,
) -> None:
    """Train to the end as the only process, or the first: it saves checkpoints, prints and publishes."""
    computed = (
        f"PyTorch {torch.__version__} on {trainer.compute}"  # this decides the last bits, beside the training key
    )
    console = TrainingConsole(state, len(data.held_out_labels))

    def save() -> None:
        require_not_rewritten("train", inputs)  # no checkpoint may hold what was learnt from other images or labels
        checkpoint.save({**state.state_dict(), "computed": computed})

    def after_step(loss: Tensor, num_steps: int) -> None:
        console.after_step(loss, num_steps)
        if state.step % project.params.runtime.checkpoint_steps == 0 and state.step < num_steps:
            check_finite(state)
            save()

    if saved := checkpoint.load():
        state.load_state_dict(saved)
        print(f"continuing from the checkpoint after {state.epoch} epochs and {state.step} steps", flush=True)
        if saved["computed"] != computed:
            print(
                f"it was computed by {saved['computed']}, the rest will be by {computed}: the last bits of the result "
                "may differ from those of an uninterrupted training",
                flush=True,
            )
    wait_for_others()
    rates = trainer.rates
    print(f"training on {trainer.compute}: learning rate {rates.lr_min:.4g} to {rates.lr_max:.4g}\n", flush=True)
    with live_training(project, inputs, state.history) as live:
        for metrics in trainer.epochs(state, data, after_step):
            save()
            console.after_epoch(metrics)
            live.log_epoch(metrics)
            console.warn_of_change(changed_since("train", inputs))


def assist(trainer: Trainer, state: TrainingState, data: TrainingData, checkpoint: Checkpoint) -> None:
    """Train to the end as another of several processes."""
    wait_for_others()
    if saved := checkpoint.load():
        state.load_state_dict(saved)
    for _ in trainer.epochs(state, data, after_step=lambda loss, num_steps: None):
        pass


def loader_processes(runtime: RuntimeParams, compute: Compute) -> int:
    """The number of processes that prepare batches."""
    if runtime.workers != "auto":
        return runtime.workers
    # On a CPU they would take cores from the training, and loading needs only 2 % of them.
    return min(4, compute.threads) if compute.device.type == "cuda" else 0


def choose_rates(train: TrainParams) -> LearningRates:
    """The learning rates in the settings, or where these say `find`, the rates that stage lr_find found.

    A UserError if stage lr_find did not find a rate that is needed, or if lr_min is not below lr_max.
    """
    lr_min = read_found_rates(locations.LR_FOUND).lr_min if train.lr_min == "find" else train.lr_min
    lr_max = read_found_rates(locations.LR_FOUND).lr_max if train.lr_max == "find" else train.lr_max
    if lr_min >= lr_max:
        raise UserError(f"train.lr_min is {lr_min:.4g}; it must be below train.lr_max, {lr_max:.4g}")
    return LearningRates(lr_min, lr_max)


if __name__ == "__main__":
    main(run, __doc__)
