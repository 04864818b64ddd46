"""The page of runs that `make ui` opens: an experiment with runs, and the columns that tell runs apart."""

import json

from image_classifier.tracking.store import open_store, store_errors

VIEW = "pipeline"  # the name of a shared view, which MLflow's page keeps in an experiment's tag
SHARED_VIEW = f"mlflow.sharedViewState.{VIEW}"
ACCURACY = "metrics.`evaluate/accuracy`"
COLUMNS = (
    ACCURACY,
    "metrics.`evaluate/loss`",
    "params.`model.network`",
    "params.`train.epochs`",
    "params.`train.seed`",
    "params.`train.peak_epoch`",
    "params.`train.label_smoothing`",
    "params.`augment.cutout`",
)


@store_errors()
def page_of_runs(experiment: str) -> str:
    """The page's address on MLflow's server, for the experiment that `Store.with_runs` takes.

    A UserError if the store fails.
    """
    store = open_store(experiment).with_runs()
    client, shown = store.client, store.experiment_id
    view = {"selectedColumns": COLUMNS, "orderByKey": ACCURACY, "orderByAsc": False}
    client.set_experiment_tag(shown, SHARED_VIEW, json.dumps(view))
    # From its own start page MLflow leads to an empty view for traces of language models.
    return f"#/experiments/{shown}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"
