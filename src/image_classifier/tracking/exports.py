"""Exported models in MLflow: the files of an export, below the newest run with the same weights."""

from pathlib import Path

from mlflow.entities import Run

from image_classifier.tracking import runs
from image_classifier.tracking.store import open_store, store_errors


@store_errors()
def run_of_weights(experiment: str, model_md5: str) -> Run | None:
    """The newest run with these weights; None if there is none. A UserError if the store fails."""
    found = runs.tagged(open_store(experiment), runs.MODEL, model_md5)
    return found[-1] if found else None


@store_errors()
def publish_export(experiment: str, run: Run, folder: Path) -> str:
    """Log the files of an export, `folder`, as the run's artifacts below `export`; returns a line that says so."""
    open_store(experiment).client.log_artifacts(run.info.run_id, str(folder), f"export/{folder.name}")
    return f"MLflow run {run.info.run_name} has these files below export/{folder.name}"
