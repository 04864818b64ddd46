"""Locks between processes, which the operating system releases when their process dies."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def locked(path: Path, timeout_seconds: float) -> Iterator[None]:
    """Hold the lock of a file. If the file system has no locks, as some NFS, warn and continue without one.

    A Timeout if another process holds the lock, an OSError if the file cannot be made or opened.
    """
    # Without `flock`, filelock would take the mere existence of the file for a lock, and it stays after a kill.
    lock = FileLock(path, timeout_seconds, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise
    except OSError as error:  # by its number it may mean anything, so try what it was
        path.open("a").close()
        print(
            f"warning: no file can be locked in {path.parent} ({error.strerror}; NFS?): run one command at a time",
            file=sys.stderr,
        )
    try:
        yield
    finally:
        lock.release()
