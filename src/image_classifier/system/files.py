"""Writes the outputs of stages: each is a new file that replaces the old one."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from image_classifier.system.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path to write to; at the end, the file written there replaces `path`.

    The old file is never written to, as it may be a link to an object in DVC's cache. If writing fails, as on a full
    disk, the old file stays, and there is a UserError.
    """
    new = path.with_name(f".{path.stem}.new{path.suffix}")  # libraries take the format from the suffix
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)  # left by a process that was killed
        yield new
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror or error}): make room on the disk or correct the permissions, then "
            "start it again"
        ) from None
    finally:
        with suppress(OSError):  # on a read-only disk nothing can be removed either
            new.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replace a file. Raises what `replacing` does."""
    with replacing(path) as new:
        new.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Replace a text file, in UTF-8. Raises what `replacing` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file. Raises what `replacing` does."""
    write_text(path, json.dumps(content, indent=2) + "\n")
