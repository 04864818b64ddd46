"""Runs in MLflow: followed while training lasts, complete and unique for each state of the pipeline afterwards.

The only package that imports MLflow. What MLflow reads from the environment when it is imported is set here, unless the
user has set it.
"""

import os

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow would wait 120 s for an answer and ask 8 times, which can hold up a training for a quarter of an hour.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "PGCONNECT_TIMEOUT": "5",  # seconds for each address of a PostgreSQL server; the default waits 130
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}.items():
    os.environ.setdefault(_name, _value)
