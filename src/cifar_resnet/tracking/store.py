"""Where runs are kept: which MLflow store, made safely, found again after the project was moved.

In order: `MLFLOW_TRACKING_URI` if not empty, then `mlruns/mlflow.db` in the main project (`DVC_ROOT`, which DVC sets
for stages: a queued or temporary experiment runs in a folder that DVC deletes afterwards), then in this project.
Artifacts are kept beside an SQLite database, in `mlruns/` with another database, and where its server says with one.
"""

import logging
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from cifar_resnet.errors import UserError
from cifar_resnet.layout import project_root

# It announces every table it makes, and prints a traceback of each error that it also raises.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

SQLITE = "sqlite:///"
DATABASES = ("postgresql", "mysql", "mssql")  # followed by :// or by +driver://
LOCK_SECONDS = 600  # to wait for another process that publishes
ARTIFACT_ROOT = "artifact_root"  # experiment tag: where the artifacts were when the database was last opened

# Everything in MLflow's schema (3.17) that holds a location below the artifact root.
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
    ("experiment_tags", "value"),  # ARTIFACT_ROOT itself; last, as it says what to look for
)


@dataclass(frozen=True)
class Store:
    """An open MLflow store and the experiment in it that runs go to."""

    uri: str
    client: MlflowClient
    experiment: Experiment
    lock: FileLock  # one process of this project at a time publishes
    moved_from: str | None  # the former artifact root, if the project was found moved

    @property
    def experiment_id(self) -> str:
        return str(self.experiment.experiment_id)


def tracking_uri() -> str:
    """The store's address; a relative SQLite path counts from the project's root.

    Raises:
        UserError: `MLFLOW_TRACKING_URI` is nothing MLflow can use here.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if uri.startswith(("http://", "https://")) or uri.startswith(DATABASES):
        return uri
    if uri and not uri.startswith(SQLITE):
        raise UserError(
            f"MLFLOW_TRACKING_URI is {without_password(uri)!r}; allowed: http(s)://HOST:PORT, {SQLITE}FILE, "
            "postgresql://…, mysql://…, mssql://…; unset it for the project's own store"
        )
    path = project_root() / (uri.removeprefix(SQLITE) if uri else "mlruns/mlflow.db")
    if {"%", "?"} & set(str(path)):  # SQLAlchemy would read them as parts of a URL
        raise UserError(f"MLflow cannot keep a database at {path}: a % or ? in the path; rename that folder")
    return f"{SQLITE}{path}"


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn whatever a store can fail with into a UserError."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, sqlite3.Error, ImportError) as error:
        # ImportError: a database's driver is not installed.
        raise UserError(f"the MLflow store {without_password(tracking_uri())} failed: {reason(error)}") from error


def without_password(uri: str) -> str:
    """An address, or a text with some, that may be printed."""
    return re.sub(r"//([^\s/@:]*):\S*@", r"//\1:***@", re.sub(r"(password=)[^\s&]*", r"\1***", uri))


def reason(error: Exception) -> str:
    """An error in one short line: of a chain of network errors the innermost, of SQLAlchemy's the database's own."""
    text = re.sub(r"\(raised as a result of [^)]*\)", "", " ".join(str(error).split()))
    return without_password(text.rpartition("Caused by ")[2].strip())[:200]


def open_store(experiment: str) -> Store:
    """Connect to the store, making the database and the experiment if need be, and correcting moved locations.

    Raises:
        UserError: the address is wrong, or the experiment was deleted.
        MlflowException, SQLAlchemyError, OSError, sqlite3.Error, ImportError: the store fails; see `store_errors`.
    """
    uri = tracking_uri()
    folder = project_root() / "mlruns"
    moved_from = None
    # A server knows where its artifacts are; a database without one keeps them here, for whatever the folder is from
    # which it is used: a queued experiment's is deleted afterwards.
    artifacts = None if uri.startswith("http") else (folder / "artifacts").as_uri()
    if uri.startswith(SQLITE):
        path = Path(uri.removeprefix(SQLITE))
        folder = path.parent
        artifacts = (folder / "artifacts").as_uri()
        _create_database(path, artifacts)
        moved_from = _correct_locations(path, artifacts)
    _set_global_uri(uri)
    client = MlflowClient(uri)
    folder.mkdir(parents=True, exist_ok=True)
    return Store(
        uri,
        client,
        _find_or_create(client, experiment, artifacts),
        FileLock(folder / "publish.lock", LOCK_SECONDS),
        moved_from,
    )


def _create_database(path: Path, artifacts: str) -> None:
    """Make an SQLite store that is either complete or not there.

    MLflow sets up a new file in 50 migrations; processes that do so at once leave it unusable, and so does a kill.
    """
    if path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # 1 s, for a new store only

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if path.exists():
            return
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as folder:
            new = Path(folder) / path.name
            SqlAlchemyStore(f"{SQLITE}{new}", artifacts).engine.dispose()  # type: ignore[no-untyped-call]
            new.replace(path)


def _correct_locations(path: Path, artifacts: str) -> str | None:
    """If the artifacts beside this database moved with it, correct every location that MLflow keeps as an absolute URI.

    Returns:
        The former artifact root, None if nothing moved.
    """
    # Opening the file here, not in MLflow, also reports an unusable one at once: MLflow would retry for 100 s.
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=20, isolation_level=None)) as database:
        moved = "SELECT DISTINCT value FROM experiment_tags WHERE key = ? AND value <> ?"
        if not database.execute(moved, (ARTIFACT_ROOT, artifacts)).fetchall():
            return None
        database.execute("BEGIN IMMEDIATE")  # eight processes may get here at once
        former = [root for (root,) in database.execute(moved, (ARTIFACT_ROOT, artifacts))]
        for root in former:
            for table, column in _LOCATIONS:
                database.execute(
                    f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "  # noqa: S608 - constants
                    f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
                    {"old": root, "new": artifacts},
                )
        database.execute("COMMIT")
        return ", ".join(former) or None


def _set_global_uri(uri: str) -> None:
    """Name the store to MLflow's registry and `log_model`, which take no client; the environment stays as it is."""
    given = os.environ.pop("MLFLOW_TRACKING_URI", None)
    mlflow.set_tracking_uri(uri)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if given is not None:
        os.environ["MLFLOW_TRACKING_URI"] = given


def _find_or_create(client: MlflowClient, name: str, artifacts: str | None) -> Experiment:
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
            f"the MLflow experiment {name!r} was deleted: `MLFLOW_TRACKING_URI={without_password(tracking_uri())} "
            f"mlflow experiments restore -x {experiment.experiment_id}` brings it back; or set another name in "
            "runtime.experiment"
        )
    return experiment
