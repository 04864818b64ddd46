"""What identifies files, trainings and states of the pipeline: hashes of what `dvc.yaml` names, as the files say it."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from cifar_resnet.dvc_files import Inputs


def state_key(settings: Mapping[str, Any], model_md5: str) -> str:
    """Identifies a finished state: all settings that any stage depends on, by dotted name, and the weights."""
    return _digest({"settings": canonical(settings), "model": model_md5})


def training_key(inputs: Inputs) -> str:
    """Identifies a training, finished or not, by the inputs of stage `train`."""
    return _digest({"settings": canonical(inputs.settings), "files": dict(inputs.files)})


def canonical(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as texts that are equal for equal values: 5, 5.0 and "5.0" are, as MLflow keeps only texts."""
    texts = {name: str(value) for name, value in settings.items()}
    for name, value in settings.items():
        if not isinstance(value, bool):
            with suppress(TypeError, ValueError):
                texts[name] = repr(float(value))
    return texts


def path_md5(path: Path) -> str:
    """The MD5 that DVC gives a file or folder: of a folder, of the list of its files' MD5s."""
    if not path.is_dir():
        return file_md5(path)
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if "__pycache__" not in file.parts}
    listed = [{"md5": file_md5(files[name]), "relpath": name} for name in sorted(files) if files[name].is_file()]
    return f"{text_md5(json.dumps(listed, sort_keys=True))}.dir"


def file_md5(path: Path) -> str:
    """The MD5 of a file's content, which is read again only after a change."""
    stat = path.stat()
    return _file_md5(path.absolute(), stat.st_size, stat.st_mtime_ns, stat.st_ino)


@cache
def _file_md5(path: Path, *state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def text_md5(text: str) -> str:
    """The MD5 of a text."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _digest(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
