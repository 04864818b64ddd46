"""The stages that `dvc.yaml` runs, and the commands beside them: `python -m pipeline.NAME`."""

import hashlib
import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
IMPORTED: dict[str, str] = {}  # the MD5 of each module of this project, as it was when Python compiled it


class _Loader(SourceFileLoader):
    """Compiles modules from their source, and notes what it compiled.

    Python would take older bytecode for a module whose time and size have not changed: clocks decide that, and stages
    must know which code they run. Compiling all modules takes 0.3 s.
    """

    def path_stats(self, path: str) -> dict[str, int]:
        raise OSError  # so Python looks for no bytecode, and writes none

    def get_data(self, path: str) -> bytes:
        content = super().get_data(path)
        IMPORTED[str(Path(path).resolve())] = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return content


def _find_modules(folder: str) -> FileFinder:
    if not any(Path(folder).resolve().is_relative_to(ROOT / name) for name in ("src", "pipeline")):
        raise ImportError
    return FileFinder(folder, (_Loader, SOURCE_SUFFIXES))


sys.path_hooks.insert(0, _find_modules)
sys.path_importer_cache.clear()  # a folder in PYTHONPATH may have been looked at before
# The library is imported from beside this package, never from an installed copy. So a queued or temporary DVC
# experiment, which runs in its own checkout, uses its own code.
sys.path.insert(0, str(ROOT / "src"))

if sys.platform == "win32":
    sys.exit("error: this project runs on Linux and macOS; on Windows, use it in WSL 2")


def _explain_missing_module(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in one line where a missing module should come from; show other errors as Python does."""
    name = getattr(error, "name", None) if kind is ModuleNotFoundError else None
    if not name:
        sys.__excepthook__(kind, error, trace)
    elif name.split(".")[0] not in ("pipeline", "image_classifier"):
        print(
            f"error: no package {name} for {sys.executable}: `source .venv/bin/activate` if this is another Python, "
            "else `pip install -r requirements.txt`, or what your own code needs",
            file=sys.stderr,
        )
    elif os.environ.get("DVC_ROOT", "") not in ("", str(Path.cwd())):
        print(
            f"error: no module {name} in this experiment's copy of the project: `git add` its file, then start the "
            "experiment again",
            file=sys.stderr,
        )
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _explain_missing_module
