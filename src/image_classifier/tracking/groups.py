"""A group of seeds or of a search in MLflow: one parent run, with the others below it in the UI."""

from collections.abc import Collection, Mapping

from image_classifier.project.params import Params
from image_classifier.tracking.runs import FINISHED, STATE, end, find, log_values, set_tags
from image_classifier.tracking.store import open_store, store_errors

GROUP = "mlflow.pipeline.group"  # tag of the parent run: the group's name
PARENT = "mlflow.parentRunId"  # MLflow's own


@store_errors()
def publish_group(params: Params, group: str, states: Collection[str], figures: Mapping[str, float]) -> str:
    """Make or complete the parent run of a group, and put the runs of these states below it.

    Returns a line that names the group and counts its runs. A UserError if the store fails.
    """
    with (store := open_store(params.runtime.experiment)).lock:
        runs = find(store)
        parent = next((run for run in runs if run.data.tags.get(GROUP) == group), None)
        if parent is None:
            parent = store.client.create_run(store.experiment_id, run_name=group, tags={GROUP: group})
        shown = parent.data.metrics
        log_values(store, parent, {(name, 0): new for name, new in figures.items() if shown.get(name) != new})
        children = [run for run in runs if run.data.tags.get(STATE) in states]
        for run in children:
            set_tags(store, run, {PARENT: parent.info.run_id})
        if parent.info.status != FINISHED:
            end(store, parent, FINISHED)
        return f"MLflow run {group} holds {len(children)} run{'s' if len(children) != 1 else ''}"
