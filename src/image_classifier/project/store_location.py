"""Finds the MLflow store, and corrects its paths after a move, without importing MLflow, which takes 2 s.

The store is the first of these: `MLFLOW_TRACKING_URI`, if not empty; `mlruns/mlflow.db` in the main project, which DVC
names to stages in `DVC_ROOT`; the same file in this project. The main project comes first, since DVC deletes the folder
of a queued or temporary experiment when it ends. An SQLite database has its artifacts beside it, another database has
them in `mlruns/`, and a server decides itself.
"""

import os
import sqlite3
from contextlib import closing, suppress
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from image_classifier.project.locations import project_root
from image_classifier.system.errors import UserError, masked

SQLITE = "sqlite:///"
DATABASES = ("postgresql", "mysql", "mssql")  # followed by :// or by +driver://
ARTIFACT_ROOT = "artifact_root"  # experiment tag: where the artifacts were when the database was last opened
# Several tables of MLflow hold locations, so every column of every table is looked at. A location is the artifact root
# or lies below it: file:///old/mlruns/artifacts/1/models becomes file:///new/mlruns/artifacts/1/models.
_MOVE = """
    UPDATE "{table}" SET "{column}" = :new || substr("{column}", length(:old) + 1)
    WHERE "{column}" = :old OR substr("{column}", 1, length(:old) + 1) = :old || '/'
"""
_COLUMNS = "SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'"


def tracking_uri() -> str:
    """The store's address; a relative SQLite path counts from the project's root.

    A UserError if `MLFLOW_TRACKING_URI` is nothing that MLflow can use here.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    with suppress(ValueError):  # raised for http://[::1 and http://host:port
        if uri.startswith(DATABASES) or (uri.startswith(("http://", "https://")) and urlsplit(uri).port != 0):
            return uri
    name = uri.removeprefix(SQLITE)  # a ~ would be a folder of this name here
    if uri and (name in ("", ":memory:") or name.startswith("~") or not uri.startswith(SQLITE)):
        raise UserError(
            f"MLFLOW_TRACKING_URI is {masked(uri)!r}; allowed: http(s)://HOST:PORT, {SQLITE}FILE, "
            "postgresql://…, mysql://…, mssql://…; unset it for the project's own store"
        )
    path = project_root() / (name or "mlruns/mlflow.db")
    path = path.parent.resolve() / path.name  # locations below a link would be lost with the link
    if {"%", "?"} & set(str(path)):  # SQLAlchemy would read them as parts of a URL
        raise UserError(f"MLflow cannot keep a database at {path}: a % or ? in the path; rename that folder")
    return f"{SQLITE}{path}"


def follow_move() -> str | None:
    """If the artifacts beside an SQLite store moved with it, correct every location that MLflow keeps as absolute URI.

    Returns the former artifact root, None if nothing moved; the same folder by another path is no move. A UserError if
    the address is wrong, a sqlite3.Error if the database cannot be used.
    """
    uri = tracking_uri()
    path = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or not path.exists():
        return None
    artifacts = (path.parent / "artifacts").as_uri()
    # Opening the file here, not in MLflow, also reports an unusable file at once: MLflow would retry for 100 s.
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=20, isolation_level=None)) as database:
        moved = "SELECT DISTINCT value FROM experiment_tags WHERE key = ? AND value <> ?"
        if not database.execute(moved, (ARTIFACT_ROOT, artifacts)).fetchall():
            return None
        database.execute("BEGIN IMMEDIATE")  # eight processes may get here at once
        former = [root for (root,) in database.execute(moved, (ARTIFACT_ROOT, artifacts))]
        for root, (table, column) in product(former, database.execute(_COLUMNS).fetchall()):
            database.execute(_MOVE.format(table=table, column=column), {"old": root, "new": artifacts})
        database.execute("COMMIT")
        return ", ".join(root for root in former if _folder(root) != _folder(artifacts)) or None


def _folder(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path)).resolve()
