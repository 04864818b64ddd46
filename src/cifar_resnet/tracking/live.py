"""The run of a training, followed while it lasts."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mlflow.entities import Run

from cifar_resnet.history import EpochMetrics
from cifar_resnet.params import Params
from cifar_resnet.tracking.runs import (
    FAILED,
    FINISHED,
    KILLED,
    RUNNING,
    close_dead_runs,
    create_run,
    has_settings,
    log_values,
    logged_values,
    set_tags,
    unpublished_trainings,
)
from cifar_resnet.tracking.source import code_tags, machine_tags, process_tags, workspace_id
from cifar_resnet.tracking.state import training_key
from cifar_resnet.tracking.store import Store, open_store, reason, tracking_uri
from cifar_resnet.tracking.workspace import epoch_values


@dataclass
class LiveRun:
    """A run that gets a training's epochs as they end. If the store fails it goes silent, and the training goes on."""

    target: tuple[Store, Run] | None = None  # None: silent
    logged: set[tuple[str, int]] = field(default_factory=set)  # metric and step

    def log_epoch(self, epoch: EpochMetrics) -> None:
        """Log an epoch, once: one that the run already has is passed over."""
        if self.target:
            with self._or_silence():
                values = [value for value in epoch_values(epoch) if (value.name, value.step) not in self.logged]
                log_values(*self.target, values)
                self.logged.update((value.name, value.step) for value in values)

    def open(self, params: Params, finished: Sequence[EpochMetrics]) -> None:
        """Go on with the run of an interrupted training, or start one; `finished` epochs are made up for."""
        with self._or_silence():
            store = open_store(params.runtime.experiment)
            close_dead_runs(store, locked_workspace=workspace_id())
            earlier = unpublished_trainings(store, params)
            tags = {**code_tags(), **machine_tags(params.compute.device), **process_tags()}
            fitting = [run for run in earlier if has_settings(run, params) and (finished or not run.data.metrics)]
            if fitting:
                run = fitting[-1]
                earlier.remove(run)
                store.client.update_run(run.info.run_id, RUNNING)
                set_tags(store, run, tags)
                self.logged.update(logged_values(store, run))
            else:
                run = create_run(store, params, live_name(params), tags)
            for superseded in earlier:  # this training does all of theirs again
                store.client.delete_run(superseded.info.run_id)
            self.target = store, run
        for epoch in finished:
            self.log_epoch(epoch)

    def close(self, status: str) -> None:
        """Set how the run ended."""
        if self.target:
            store, run = self.target
            with self._or_silence():
                store.client.set_terminated(run.info.run_id, status)

    @contextmanager
    def _or_silence(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever goes wrong here, the training is worth more
            self.target = None
            warn(error, "training goes on without it")


@contextmanager
def live_training(params: Params, finished: Sequence[EpochMetrics]) -> Iterator[LiveRun]:
    """Follow a training in MLflow. `finished` are the epochs that a resumed training has behind it.

    The process must have the lock of its workspace (`Checkpoint.lock`).

    Raises:
        UserError: `MLFLOW_TRACKING_URI` is nothing MLflow can use.
    """
    tracking_uri()
    live = LiveRun()
    live.open(params, finished)
    try:
        yield live
    except Exception:
        live.close(FAILED)
        raise
    except BaseException:  # a signal
        live.close(KILLED)
        raise
    live.close(FINISHED)


def live_name(params: Params) -> str:
    """The name of a run before there are weights to name it by."""
    return f"{params.data.dataset}-{params.train.epochs}ep-training-{training_key(params)[:8]}"


def warn(error: Exception, consequence: str) -> None:
    """Say in one line on stderr that the store failed, and what repairs it."""
    print(
        f"warning: MLflow failed, {consequence}; `python -m pipeline.sync` makes up for it later "
        f"({type(error).__name__}: {reason(error)})",
        file=sys.stderr,
    )
