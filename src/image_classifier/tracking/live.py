"""The run of a training, followed while it lasts."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import Run
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from image_classifier.outputs.history import EpochMetrics
from image_classifier.project.definition import Inputs, Project, read_lock
from image_classifier.project.keys import training_key
from image_classifier.project.store_location import tracking_uri
from image_classifier.tracking import runs
from image_classifier.tracking.notes import hand_over
from image_classifier.tracking.provenance import code_tags, machine_tags, process_tags, workspace_id
from image_classifier.tracking.results import Key, epoch_values, why_stale
from image_classifier.tracking.store import Store, open_store, warn

SYSTEM_SECONDS = 10  # between two samples of CPU, memory, disk and network, each of 15 ms of CPU time
logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)  # it logs its start and its end


@dataclass
class LiveRun:
    """A run that gets each epoch when it ends. After a failure, the store is not used until the training ends."""

    target: tuple[Store, Run] | None = None  # None: there is no run
    logged: set[Key] = field(default_factory=set)
    failed: bool = False
    monitor: Any = None  # MLflow's monitor of the machine

    def open(self, project: Project, inputs: Inputs, finished: Sequence[EpochMetrics]) -> None:
        """Continue the run of an interrupted training, or start a run, and add the `finished` epochs that it lacks."""
        with self._or_silence():
            store = open_store(project.params.runtime.experiment)
            runs.close_dead_runs(store, locked_workspace=workspace_id())
            run = _claim_run(store, project, training_key(inputs), starts_over=not finished)
            self.target = store, run
            self.logged.update(runs.logged_values(store, run))
            self.monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
                run.info.run_id, SYSTEM_SECONDS, resume_logging=True
            )
            self.monitor.start()
        for epoch in finished:
            self.log_epoch(epoch)

    def log_epoch(self, epoch: EpochMetrics) -> None:
        """Log an epoch, unless the run already has it."""
        if self.target and not self.failed:
            with self._or_silence():
                values = {key: value for key, value in epoch_values(epoch).items() if key not in self.logged}
                runs.log_values(*self.target, values)
                self.logged |= values.keys()

    def close(self, status: str) -> None:
        """Set how the run ended. A store that failed before is tried once more."""
        if self.target:
            store, run = self.target
            if self.monitor:
                with suppress(Exception):  # samples of the machine are no results
                    self.monitor.finish()
            with suppress(Exception) if self.failed else self._or_silence():
                runs.end(store, run, status)

    @contextmanager
    def _or_silence(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # no error here may stop the training
            self.failed = True
            warn(error, "training continues without it")


def _claim_run(store: Store, project: Project, training: str, starts_over: bool) -> Run:
    """The run that this training continues, or a new one; other unpublished runs of this training are removed.

    A training that `starts_over` repeats all epochs, so it continues only a run without values.
    """
    tags = {runs.TRAINING: training, **process_tags(), **code_tags(project)}
    tags |= machine_tags(project.params.compute.device)
    earlier = runs.unpublished_trainings(store, training)
    alike = [run for run in earlier if runs.has_settings(run, project.tracked)]
    fitting = [run for run in alike if not (starts_over and runs.metric_names(run))]
    if fitting:
        claimed = fitting[-1]
        earlier.remove(claimed)
        store.client.update_run(claimed.info.run_id, runs.RUNNING)
        runs.set_tags(store, claimed, tags)
    else:  # named by the training, since there are no weights yet
        claimed = runs.create_run(store, project.tracked, f"{runs.short_name(project)}-training-{training[:8]}", tags)
    claimed = hand_over(store, earlier, claimed)
    for run in earlier:
        store.client.delete_run(run.info.run_id)
    return claimed


@contextmanager
def live_training(project: Project, inputs: Inputs, finished: Sequence[EpochMetrics]) -> Iterator[LiveRun]:
    """Follow a training in MLflow. `finished` are the epochs that a resumed training has already done.

    The process must hold the lock of its workspace (`Checkpoint.lock`).

    A UserError if MLflow cannot use the address in `MLFLOW_TRACKING_URI`.
    """
    tracking_uri()
    live = LiveRun()
    if reason := why_stale(project, inputs, read_lock()):
        print(f"MLflow does not follow this training: {reason}", flush=True)
    else:
        live.open(project, inputs, finished)
    status = runs.KILLED  # if a signal ends it: SystemExit and KeyboardInterrupt are no Exceptions
    try:
        yield live
        status = runs.FINISHED
    except Exception:
        status = runs.FAILED
        raise
    finally:
        live.close(status)
