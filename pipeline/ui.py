"""`python -m pipeline.ui`: the MLflow UI over the store that the pipeline writes to, for this machine alone."""

import os
import sys

from cifar_resnet.params import RuntimeParams
from cifar_resnet.store_location import masked
from cifar_resnet.tracking.store import open_store
from pipeline.stage import main


def run(runtime: RuntimeParams) -> None:
    """Become the UI's server, or say where the runs are if a server keeps them.

    Raises:
        UserError: the store cannot be used.
    """
    store = open_store(runtime.experiment)
    uri = store.uri
    if uri.startswith(("http://", "https://")):
        print(f"the runs are on {masked(uri)}")
        return
    port = os.environ.get("MLFLOW_PORT", "5000")
    address = ["--host", "127.0.0.1", "--port", port, "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,  # it may hold a password, which every user of the machine sees in arguments
        # MLflow would also start eight processes, of 230 MB each, for background jobs of which this project has none.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    # From its own start page MLflow leads to an empty view for traces of language models.
    page = f"#/experiments/{store.experiment_id}/runs?workflowType=machine_learning"
    print(f"MLflow on http://127.0.0.1:{port}/{page} (Ctrl-C ends it)", flush=True)
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui", *address], environment)


if __name__ == "__main__":
    main(run)
