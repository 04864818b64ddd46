"""`python -m pipeline.ui`: the MLflow UI for the store that the pipeline writes to, on this machine only."""

import os
import socket
import sys

from image_classifier.project.params import RuntimeParams
from image_classifier.project.store_location import tracking_uri
from image_classifier.system.errors import UserError, masked
from pipeline.stage import main


def run(runtime: RuntimeParams) -> None:
    """Replace this process by the UI's server; or if the runs are on a server, print its address.

    A UserError if the port or the store cannot be used.
    """
    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        print(f"the runs are on {masked(uri)}")
        return
    port = free_port()

    from image_classifier.tracking.run_table import page_of_runs  # 2 s

    page = f"http://127.0.0.1:{port}/{page_of_runs(runtime.experiment)}"
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,  # not an argument, which all users can see: it may hold a password
        # MLflow would also start eight processes of 230 MB each for background jobs, and this project has none.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    print(f"MLflow on {page} (Ctrl-C ends it)")
    print(f"charts with the curves of all runs: {page}&compareRunsMode=CHART")
    if "MLFLOW_SERVER_ALLOWED_HOSTS" not in os.environ:
        print(
            "It answers only to this address. For a proxy or a forwarded port: MLFLOW_SERVER_ALLOWED_HOSTS=NAME:PORT "
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS=https://NAME:PORT make ui"
        )
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui", *address], environment)


def free_port() -> int:
    """The port to serve on, from the environment variable MLFLOW_PORT or 5000.

    A UserError if it is not a port number, or cannot be used.
    """
    text = os.environ.get("MLFLOW_PORT") or "5000"
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise UserError(f"MLFLOW_PORT is {text!r}; allowed: 1 to 65535")
    try:
        socket.create_server(("127.0.0.1", int(text))).close()
    except OSError as error:
        raise UserError(
            f"port {text}: {os.strerror(error.errno or 0)} (an earlier `make ui`?); try `MLFLOW_PORT=5001 make ui`"
        ) from None
    return int(text)


if __name__ == "__main__":
    main(run, __doc__)
