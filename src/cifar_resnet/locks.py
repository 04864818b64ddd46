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
    """Hold the lock that a file stands for; where the file system has none, as some NFS, warn and continue without one.

    A Timeout if another process holds it, an OSError if the file cannot be made.
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
