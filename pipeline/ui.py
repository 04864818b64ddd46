"""`python -m pipeline.ui`: the MLflow UI over the store that the pipeline writes to, for this machine alone."""

import os
import sys

from cifar_resnet.params import RuntimeParams
from cifar_resnet.tracking.store import open_store
from pipeline.stage import main


def run(runtime: RuntimeParams) -> None:
    """Become the UI's server, or say where the runs are if a server keeps them.

    Raises:
        UserError: the store cannot be used.
    """
    uri = open_store(runtime.experiment).uri
    if uri.startswith(("http://", "https://")):
        print(f"the runs are on {uri}")
        return
    port = os.environ.get("MLFLOW_PORT", "5000")
    address = ["--host", "127.0.0.1", "--port", port, "--workers", "1", "--backend-store-uri", uri]
    # MLflow would also start eight processes, of 230 MB each, for background jobs of which this project has none.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    print(f"MLflow on http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning (Ctrl-C ends it)", flush=True)
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui", *address], environment)


if __name__ == "__main__":
    main(run)
