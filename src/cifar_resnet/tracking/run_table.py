"""The page of runs that `make ui` opens: the experiment that has some, with the columns that tell runs apart."""

import json

from cifar_resnet.tracking.store import open_store, store_errors

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
    """Its address on MLflow's server. If the experiment has no runs, the one with the newest run of all is shown.

    A UserError if the store fails.
    """
    store = open_store(experiment).with_runs()
    client, shown = store.client, store.experiment_id
    view = {"selectedColumns": COLUMNS, "orderByKey": ACCURACY, "orderByAsc": False}
    client.set_experiment_tag(shown, SHARED_VIEW, json.dumps(view))
    # From its own start page MLflow leads to an empty view for traces of language models.
    return f"#/experiments/{shown}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"
