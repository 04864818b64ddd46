"""Runs DVC experiments, several at a time, each in a copy of the project and in processes of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Never

import psutil
from joblib import cpu_count
from tqdm import tqdm

from image_classifier.system.errors import UserError
from image_classifier.system.git import dvc_experiments
from image_classifier.system.progress import progress

LOGS = Path("build/members")  # what members print when several run at a time
COPIES = Path(".dvc/tmp/exps/run")  # DVC notes there in which folder each experiment runs
LOCKED = "Unable to acquire lock"  # DVC locks the project while an experiment starts, and while it ends
STARTED = "Reproducing experiment"  # DVC prints this once it has let go of the lock
LOCKED_SECONDS = 300  # how long to try again


class FailedError(UserError):
    """A member of a group that did not finish."""


def run_experiments(options: Mapping[str, Sequence[str]], jobs: int) -> dict[str, FailedError]:
    """Run experiments with these options of `dvc exp run`, by name; returns why some failed.

    With several `jobs`, each has its share of the cores and one of the GPUs, and what it prints goes to a file. If this
    process is interrupted, all of them are, and their copies of the project are removed.
    """
    if not options:
        return {}
    runner = _Runner(jobs=min(jobs, len(options)))
    with ThreadPoolExecutor(runner.jobs) as pool:
        futures = {name: pool.submit(runner.run, name, words) for name, words in options.items()}
        try:
            if runner.jobs > 1:
                _show(futures)
            results = {name: future.result() for name, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.stop()
            raise
        finally:
            _remove_copies(options)
    return {name: error for name, error in results.items() if error}


@dataclass
class _Runner:
    """Starts experiments in turn, each with its share of this machine."""

    jobs: int
    starting: Lock = field(default_factory=Lock)
    shares: SimpleQueue[dict[str, str]] = field(default_factory=SimpleQueue)  # of this machine, as variables
    stopped: bool = False

    def __post_init__(self) -> None:
        gpus = _gpus() if self.jobs > 1 else []
        for job in range(self.jobs):
            gpu = {"CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]} if gpus else {}
            # joblib, which counts the cores for `compute.threads: auto`, counts no more than this variable says.
            self.shares.put({"LOKY_MAX_CPU_COUNT": str(max(1, cpu_count() // self.jobs)), **gpu})

    def run(self, name: str, options: Sequence[str]) -> FailedError | None:
        """Run one experiment to its end; returns why it failed."""
        share, log = self.shares.get(), LOGS / f"{name}.log" if self.jobs > 1 else None
        try_until = time.monotonic() + LOCKED_SECONDS
        code = self._run_once(name, options, share, log)
        while code and log and LOCKED in log.read_text(errors="replace") and time.monotonic() < try_until:
            time.sleep(1)
            code = self._run_once(name, options, share, log)
        self.shares.put(share)
        if code == 0 and name in dvc_experiments():
            return None
        where = f"{_last_line(log)} ({log})" if log else "the reason is above"
        error = FailedError(f"{name} failed: {where}; correct it, then start the same command again")
        if not self.stopped:
            print(f"error: {error}", file=sys.stderr, flush=True)
        return error

    def _run_once(self, name: str, options: Sequence[str], share: Mapping[str, str], log: Path | None) -> int:
        command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *options]
        with self.starting:
            if self.stopped:
                return 1
            if log is None:
                print(f"running {name}", flush=True)
                process = subprocess.Popen(command)
            else:
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("wb") as output:
                    process = subprocess.Popen(command, env={**os.environ, **share}, stdout=output, stderr=output)
            while log and process.poll() is None and STARTED not in log.read_text(errors="replace"):
                time.sleep(0.1)
        return process.wait()

    def stop(self) -> None:
        """Interrupt the experiments that run, as Ctrl-C does, so that each keeps a checkpoint."""
        self.stopped = True
        left = psutil.Process().children(recursive=True)
        # Ctrl-C in a terminal has reached them already, so they get some seconds to end.
        for sent, seconds in ((None, 3), (signal.SIGINT, 60), (signal.SIGKILL, None)):
            for process in left if sent else []:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(sent)
            _, left = psutil.wait_procs(left, seconds)


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA names them."""
    import torch  # 2 s

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


def _show(futures: Mapping[str, "Future[FailedError | None]"]) -> None:
    """Show how many experiments have ended, and in which epoch the others are."""
    print(f"running {len(futures)} experiments; {LOGS}/ has what each prints", flush=True)
    is_terminal = sys.stdout.isatty()
    waiting = set(futures.values())
    bar: tqdm[Never]
    with progress((), len(futures), "experiments") as bar:
        while waiting:
            done, waiting = wait(waiting, timeout=1)
            bar.update(len(done))
            epochs = {name: _epoch(LOGS / f"{name}.log") for name, future in futures.items() if future in waiting}
            running = ", ".join(f"{name} epoch {epoch}" for name, epoch in epochs.items() if epoch)
            bar.set_postfix_str(running, refresh=is_terminal)  # in a file, each refresh would be a line


def _epoch(log: Path) -> str | None:
    """The last epoch that a training has begun."""
    found = re.findall(r"^EPOCH: (\d+)", log.read_text(errors="replace"), re.MULTILINE) if log.exists() else []
    return found[-1] if found else None


def _last_line(log: Path) -> str:
    """The last line of a log that names an error, or the last one."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it printed nothing"])[-1]


def _remove_copies(names: Iterable[str]) -> None:
    """Delete the copies of the project in which these experiments ran: DVC keeps those of interrupted ones."""
    for note in COPIES.glob("*/*.run"):
        with suppress(OSError, ValueError, KeyError):
            about = json.loads(note.read_text(encoding="utf-8"))
            if about["name"] in set(names):
                shutil.rmtree(about["root_dir"], ignore_errors=True)
