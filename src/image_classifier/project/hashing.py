"""The MD5s that DVC gives to files and folders."""

import hashlib
import json
import os
from functools import cache
from pathlib import Path

from pathspec import GitIgnoreSpec

IGNORED = Path(".dvcignore")
FileState = tuple[int, int, int]  # inode, bytes, time of the last change in ns


def path_md5(path: Path) -> str:
    """The MD5 that DVC gives a file or a folder.

    For a folder, it is the MD5 of a list with the path and the MD5 of each file. Ignored files are not listed.
    """
    if not path.is_dir():
        return file_md5(path)
    listed = [{"md5": file_md5(path / name), "relpath": name} for name in files_for_dvc(path)]
    return f"{text_md5(json.dumps(listed, sort_keys=True))}.dir"


def files_for_dvc(folder: Path) -> list[str]:
    """The files that DVC sees in a folder, by their path in it, sorted.

    In the project it ignores what its own patterns and .dvcignore name; files outside the project are never ignored.
    """
    patterns = IGNORED.read_text(encoding="utf-8").splitlines() if IGNORED.exists() else []
    where = Path(os.path.relpath(folder))
    ignored = GitIgnoreSpec.from_lines([] if where.parts[:1] == ("..",) else [".git", ".hg/", ".dvc/", *patterns])
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return [name for name in names if not ignored.match_file(where / name)]


def is_code(path: str) -> bool:
    """Whether a dependency is code of this project, which a process reads once, when it starts."""
    return path.startswith(("src/", "pipeline/"))


def files_in(path: Path) -> list[Path]:
    """A file itself, or the files that DVC sees in a folder."""
    return [path / name for name in files_for_dvc(path)] if path.is_dir() else [path]


def file_state(path: Path) -> FileState:
    """What changes if somebody writes to a file."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def file_md5(path: Path) -> str:
    """The MD5 of a file's content; the file is read again only after a change."""
    return _file_md5(path.absolute(), *file_state(path), path.stat().st_ctime_ns)


def text_md5(text: str) -> str:
    """The MD5 of a text."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@cache
def _file_md5(path: Path, *state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
