"""Checkpoints, from which a killed training continues: written atomically, found by the key of the training."""

import io
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from filelock import FileLock, Timeout

from image_classifier.project.definition import read_lock
from image_classifier.project.hashing import file_md5
from image_classifier.project.locations import CHECKPOINTS, project_root
from image_classifier.system.errors import UserError
from image_classifier.system.files import write_bytes, write_text
from image_classifier.system.locks import locked

KEPT = 3  # checkpoints of other trainings, 80 MB each, kept so that these can be continued


class Checkpoint:
    """The checkpoint of one training, in a folder of its own outside every DVC output."""

    def __init__(self, key: str) -> None:
        self.folder = project_root() / CHECKPOINTS / key
        self.path = self.folder / "state.pt"
        self.finished = self.folder / "finished"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the locks of this training and of this workspace; a UserError if another process holds one."""
        with ExitStack() as locks:
            try:
                for path in (Path.cwd() / CHECKPOINTS / "workspace.lock", self.folder / "training.lock"):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    locks.enter_context(locked(path, 0))
            except Timeout as error:
                raise UserError(
                    f"another process is training here (it holds {error.lock_file}): wait for it, or stop it and run "
                    "`dvc repro` again, which continues from its last checkpoint"
                ) from None
            except OSError as error:
                raise UserError(
                    f"cannot keep checkpoints in {self.folder}: {error}; correct the folder's permissions"
                ) from None
            yield

    def load(self) -> dict[str, Any] | None:
        """The last state saved, or None; a UserError if it is damaged. No code is unpickled."""
        try:
            return cast(dict[str, Any], torch.load(self.path, map_location="cpu", weights_only=True))
        except FileNotFoundError:
            return None
        except (RuntimeError, EOFError, UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"the checkpoint {self.path} is damaged ({reason}): delete it, and `dvc repro` trains from the start"
            ) from None

    def save(self, state: dict[str, Any]) -> None:
        """Replace the last state; at any moment one whole state is on disk. Raises what `write_bytes` does."""
        serialized = io.BytesIO()  # in memory first: torch hides why it cannot write a file
        torch.save(state, serialized)
        write_bytes(self.path, serialized.getbuffer())

    def finish(self, model: Path) -> None:
        """Note the MD5 of the finished model. The state stays until `dvc.lock` has it, since a kill may come before."""
        write_text(self.finished, file_md5(model))

    def remove_old(self) -> None:
        """Delete checkpoints that are no longer needed.

        This training's state is deleted if `dvc.lock` records its finished model: then the training is wanted anew. Of
        other trainings, the KEPT newest states stay, and those that a process has locked.
        """
        recorded = {md5 for record in read_lock().values() for md5 in record.outs.values()}
        if self.finished.exists() and self.finished.read_text(encoding="utf-8") in recorded:
            self.finished.unlink()
            self.path.unlink(missing_ok=True)
        others = [path for path in self.folder.parent.glob("*/state.pt") if path != self.path]
        written = {}
        for path in others:
            with suppress(OSError):  # another process has just deleted it
                written[path] = path.stat().st_mtime
        for path in sorted(written, key=written.__getitem__, reverse=True)[KEPT:]:
            lock = FileLock(path.with_name("training.lock"), timeout=0, fallback_to_soft=False)
            with suppress(OSError), lock:  # a Timeout is an OSError
                shutil.rmtree(path.parent, ignore_errors=True)
