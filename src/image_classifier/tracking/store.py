"""The MLflow store for the runs: create it safely, open it, and report its errors without its password."""

import logging
import os
import re
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from image_classifier.project.locations import project_root
from image_classifier.project.store_location import ARTIFACT_ROOT, DATABASES, SQLITE, follow_move, tracking_uri
from image_classifier.system.errors import UserError, masked
from image_classifier.system.locks import locked

# This module logs every table that it makes, and prints a traceback of each error that it also raises.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

LOCK_SECONDS = 600  # longest wait for another process that publishes


@dataclass(frozen=True)
class Store:
    """An open MLflow store, and the experiment in it that gets the runs."""

    client: MlflowClient
    experiment_id: str
    folder: Path

    @property
    def lock(self) -> AbstractContextManager[None]:
        """A lock: one process of this project publishes at a time."""
        return locked(self.folder / "publish.lock", LOCK_SECONDS)

    def with_runs(self) -> "Store":
        """This store. If its experiment has no runs, take the experiment with the newest run of all, and say so."""
        if self.client.search_runs([self.experiment_id], max_results=1):
            return self
        others = [str(other.experiment_id) for other in self.client.search_experiments()]
        for newest in self.client.search_runs(others, max_results=1):
            own, other = (self.client.get_experiment(e).name for e in (self.experiment_id, newest.info.experiment_id))
            print(f"MLflow experiment {own} has no runs; these are of {other}", file=sys.stderr)
            return replace(self, experiment_id=newest.info.experiment_id)
        return self


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn every error of a store into a UserError."""
    try:
        yield
    except PermissionError:  # it names its file, and `pipeline.stage.main` says what to do
        raise
    except (MlflowException, SQLAlchemyError, OSError, sqlite3.Error, ImportError) as error:
        # ImportError: a database's driver is not installed.
        advice = "it is no MLflow store:" if "no such table" in str(error) else "correct that, or"
        failure = f"{masked(tracking_uri())} failed: {reason(error)}"
        raise UserError(f"the MLflow store {failure}; {advice} set MLFLOW_TRACKING_URI to another") from error


def reason(error: Exception) -> str:
    """An error in one short line: the innermost of a chain of network errors; for SQLAlchemy, the database's error."""
    text = re.sub(r"\(raised as a result of [^)]*\)", "", " ".join(str(error).split()))
    return masked(text.rpartition("Caused by ")[2].strip())[:200]


def warn(error: Exception, consequence: str) -> None:
    """Say in one line on stderr that the store failed, and what repairs it."""
    print(
        f"warning: MLflow failed, {consequence}; `python -m pipeline.sync` publishes it later "
        f"({type(error).__name__}: {reason(error)})",
        file=sys.stderr,
    )


def open_store(experiment: str) -> Store:
    """Connect to the store. Make the database and the experiment if they are missing, and correct moved locations.

    A UserError if the address is wrong or the experiment was deleted. `store_errors` lists the errors of a store.
    """
    uri = tracking_uri()
    database = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
    folder = database.parent if database else project_root() / "mlruns"
    folder.mkdir(parents=True, exist_ok=True)
    # A server knows where its artifacts are. A database without a server gets a fixed folder for them: the folder of
    # a queued experiment that uses it is deleted afterwards.
    artifacts = None if uri.startswith("http") else (folder / "artifacts").as_uri()
    if database:
        if not database.exists():
            _create_database(database, str(artifacts))
        follow_move()
    elif uri.startswith(DATABASES):
        create_engine(uri).connect().close()  # fails soon; MLflow would try for 105 s without a message
    given = "MLFLOW_TRACKING_URI" in os.environ
    mlflow.set_tracking_uri(uri)  # for MLflow's functions that take no client
    if not given:  # set_tracking_uri sets the variable too
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    client = MlflowClient(uri)
    return Store(client, _find_or_create(client, experiment, artifacts), folder)


def _create_database(path: Path, artifacts: str) -> None:
    """Make an SQLite store that is either complete or not there.

    MLflow sets up a new file in 50 migrations. Several processes that do this at once, or a kill, leave it unusable.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # 1 s, for a new store only

    with locked(path.with_name(f"{path.name}.lock"), LOCK_SECONDS):
        if path.exists():
            return
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as folder:
            new = Path(folder) / path.name
            SqlAlchemyStore(f"{SQLITE}{new}", artifacts).engine.dispose()  # type: ignore[no-untyped-call]
            new.replace(path)


def _find_or_create(client: MlflowClient, name: str, artifacts: str | None) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            client.create_experiment(name, artifacts, tags={ARTIFACT_ROOT: artifacts} if artifacts else None)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # made by another process in the meantime
                raise
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
    if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        raise UserError(
            f"the MLflow experiment {name!r} was deleted: `MLFLOW_TRACKING_URI={masked(tracking_uri())} "
            f"mlflow experiments restore -x {experiment.experiment_id}` brings it back; or set another name in "
            "runtime.experiment"
        )
    return str(experiment.experiment_id)
