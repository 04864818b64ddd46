"""Locks between processes, which the operating system releases when their process dies."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP}


@contextmanager
def locked(path: Path, timeout_seconds: float) -> Iterator[None]:
    """Hold the lock of a file. If the file system has no locks, as some NFS, warn and continue without one.

    A Timeout if another process holds the lock, an OSError if the file cannot be made.
    """
    lock = FileLock(path, timeout_seconds)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(f"warning: no file can be locked in {path.parent} ({error.strerror}; NFS?): run one command at a time",
              file=sys.stderr)  # fmt: skip
    try:
        yield
    finally:
        lock.release()
