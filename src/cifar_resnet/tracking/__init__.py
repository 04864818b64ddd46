"""Runs in MLflow: followed while training lasts, complete and unique for each state of the pipeline afterwards.

The only package that imports mlflow.
"""

import cifar_resnet.tracking.environment  # noqa: F401 - before anything imports MLflow, which reads it
from cifar_resnet.tracking.live import LiveRun, live_training
from cifar_resnet.tracking.lookup import RunRecord, find_runs, list_runs, recorded_in
from cifar_resnet.tracking.publication import Publication, publish, publish_stage

__all__ = [
    "LiveRun",
    "Publication",
    "RunRecord",
    "find_runs",
    "list_runs",
    "live_training",
    "publish",
    "publish_stage",
    "recorded_in",
]
