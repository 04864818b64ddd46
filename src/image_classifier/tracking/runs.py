"""Runs in a store: making, finding, filling and closing them."""

from collections import defaultdict
from collections.abc import Mapping
from time import time
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, Run, RunTag

from image_classifier.project.definition import Project
from image_classifier.project.settings import canonical
from image_classifier.tracking.provenance import WORKSPACE, is_dead, is_this_process
from image_classifier.tracking.results import Key, Values
from image_classifier.tracking.store import Store

# Tags; the UI hides those that start with mlflow.
STATE = "mlflow.pipeline.state"  # `state_key`; a run without this tag is an unpublished training
TRAINING = "mlflow.pipeline.training"  # `training_key`
MODEL = "mlflow.pipeline.model"  # MD5 of the weights
START_MD5 = "start_weights_md5"  # of the file that the training started from, unless that was random
MODEL_MD5 = "model_md5"  # tag of a logged model
UNSURE_UP_TO = "unsure_up_to"  # tag of a logged model: the confidence up to which it is unsure, or None
OF_MODEL = "evaluate/"  # metrics of the finished model
OF_MACHINE = "system/"  # metrics of the machine, which MLflow measures while a training lasts
MAX_VALUES = 1000  # metrics that MLflow accepts in one request

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"  # as MLflow calls them


def find(store: Store, filter_string: str = "") -> list[Run]:
    """The runs of the experiment that match an MLflow filter, oldest first."""
    return mlflow.search_runs(
        [store.experiment_id], filter_string, order_by=["attributes.start_time ASC"], output_format="list"
    )


def tagged(store: Store, tag: str, value: str) -> list[Run]:
    """The runs with a tag of this value, oldest first."""
    return find(store, f"tags.`{tag}` = '{value}'")


def unpublished_trainings(store: Store, training: str) -> list[Run]:
    """Runs of this training that were not published, oldest first; of running ones, only this process's."""
    return [
        run
        for run in tagged(store, TRAINING, training)
        if STATE not in run.data.tags and (run.info.status != RUNNING or is_this_process(run.data.tags))
    ]


def create_run(
    store: Store, settings: Mapping[str, Any], name: str, tags: Mapping[str, str], started_ms: int | None = None
) -> Run:
    """A new run with all settings that shape results."""
    run = store.client.create_run(store.experiment_id, started_ms, run_name=name, tags=dict(tags))
    store.client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in settings.items()])
    return run


def short_name(project: Project) -> str:
    """A name that people recognise a run by: data set, length and seed."""
    params = project.params
    return f"{params.data.dataset}-{params.train.epochs}ep-seed{params.train.seed}"


def has_settings(run: Run, settings: Mapping[str, Any]) -> bool:
    """Whether a run has these settings and no others; MLflow cannot change a run's settings."""
    return canonical(run.data.params) == canonical(settings)


def set_tags(store: Store, run: Run, tags: Mapping[str, str]) -> bool:
    """Set the tags that differ; returns whether any did."""
    new = [RunTag(name, value) for name, value in tags.items() if run.data.tags.get(name) != value]
    if new:
        store.client.log_batch(run.info.run_id, tags=new)
    return bool(new)


def log_values(store: Store, run: Run, values: Values, model_id: str | None = None) -> None:
    """Add metric values; those that start with `evaluate/` are also noted for the model `model_id`."""
    now = int(1000 * time())
    metrics = [
        Metric(name, value, now, step, model_id=model_id if name.startswith(OF_MODEL) else None)
        for (name, step), value in values.items()
    ]
    for start in range(0, len(metrics), MAX_VALUES):
        store.client.log_batch(run.info.run_id, metrics[start : start + MAX_VALUES])


def metric_names(run: Run) -> list[str]:
    """The metrics that a run has, without those of the machine."""
    return [name for name in run.data.metrics if not name.startswith(OF_MACHINE)]


def logged_values(store: Store, run: Run) -> dict[Key, list[float]]:
    """All metric values that a run has, by name and step, without those of the machine."""
    logged = defaultdict(list)
    for name in metric_names(run):
        for metric in store.client.get_metric_history(run.info.run_id, name):
            logged[name, metric.step].append(metric.value)
    return logged


def linked_models(run: Run) -> list[str]:
    """The identifiers of the models that a run has as outputs."""
    return [output.model_id for output in run.outputs.model_outputs] if run.outputs else []


def end(store: Store, run: Run, status: str) -> None:
    """Note how a run ended, and when: never before its start, even if the clock was set back meanwhile."""
    store.client.set_terminated(run.info.run_id, status, max(int(1000 * time()), run.info.start_time))


def close_dead_runs(store: Store, locked_workspace: str = "") -> list[str]:
    """Mark runs as killed if their process on this machine is gone; returns their names.

    `locked_workspace` is a workspace whose lock this process holds. No other training in it can be alive, even if it
    had another host name, as in a container that was removed.
    """
    dead = [
        run
        for run in find(store, f"attributes.status = '{RUNNING}'")
        if is_dead(run.data.tags)
        or (run.data.tags.get(WORKSPACE) == locked_workspace and not is_this_process(run.data.tags))
    ]
    for run in dead:
        end(store, run, KILLED)
    return [run.info.run_name for run in dead]
