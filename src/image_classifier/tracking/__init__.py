"""Runs in MLflow: followed while training lasts; afterwards one complete run for each state of the pipeline.

Only this package imports MLflow. It sets the environment variables that MLflow reads when it is imported, unless the
user has set them.
"""

import os

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By default MLflow waits 120 s for an answer and asks 8 times: that can stop a training for a quarter of an hour.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "PGCONNECT_TIMEOUT": "5",  # seconds for each address of a PostgreSQL server; the default waits 130
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}.items():
    os.environ.setdefault(_name, _value)
