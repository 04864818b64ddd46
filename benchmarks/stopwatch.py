"""A stopwatch outside the process that it times: any program that prints a line when it gets somewhere can be timed."""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Times:
    """Seconds since a process was started: on the clock, and of CPU in user and system mode together."""

    wall: float
    cpu: float

    def __sub__(self, earlier: "Times") -> "Times":
        return Times(self.wall - earlier.wall, self.cpu - earlier.cpu)

    def __add__(self, other: "Times") -> "Times":
        return Times(self.wall + other.wall, self.cpu + other.cpu)

    def __truediv__(self, number: float) -> "Times":
        return Times(self.wall / number, self.cpu / number)


@dataclass(frozen=True)
class Observation:
    """What was seen of one process from its start to its end."""

    lines: tuple[tuple[str, Times], ...]  # what it printed, and when
    total: Times
    peak_bytes: int  # resident memory: the peaks of all its processes together

    def times(self, beginning: str) -> list[Times]:
        """When the lines came that begin like this."""
        return [times for line, times in self.lines if line.startswith(beginning)]

    def rest(self, beginning: str) -> str:
        """What follows `beginning` in the first line that begins like this."""
        return next(line.removeprefix(beginning) for line, _ in self.lines if line.startswith(beginning))


class CommandError(Exception):
    """A command that was to be timed failed; the message has its last words."""


def observe(command: Sequence[str], folder: Path, environment: Mapping[str, str], until: str | None) -> Observation:
    """Run a command in a folder, noting the time at each line it prints; end it after a line that begins with `until`.

    Raises:
        CommandError: it failed, or ended before it printed that line.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
        )
        assert process.stdout
        lines: list[tuple[str, Times]] = []
        complete, peak_bytes = False, 0
        for output in process.stdout:
            times = Times(time.monotonic() - started, _cpu_seconds(process.pid))
            # A progress bar redraws itself after a carriage return; what counts is what stands at the end.
            line = output.rstrip("\n").rpartition("\r")[2]
            lines.append((line, times))
            if until and line.startswith(until):
                complete, peak_bytes = True, _peak_bytes(process.pid)
                _kill(process.pid)
                break
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.stdout.close()
        process.returncode = os.waitstatus_to_exitcode(status)
        if not complete and (until or process.returncode):
            errors.seek(0)
            raise CommandError(
                f"{' '.join(command)} ended with {process.returncode} in {folder}:\n{errors.read()[-4000:]}"
            )
    total = Times(wall, usage.ru_utime + usage.ru_stime)
    return Observation(tuple(lines), total, peak_bytes or usage.ru_maxrss * 1024)


def _cpu_seconds(pid: int) -> float:
    """User and system seconds of a process and all its descendants, those that have ended included."""
    seconds = 0.0
    for process in _tree(pid):
        try:
            seconds += sum(process.cpu_times()[:4])  # user, system, and both of the children that have ended
        except psutil.NoSuchProcess:  # it ended just now, and counts among its parent's children at the next line
            continue
    return seconds


def _peak_bytes(pid: int) -> int:
    """Peak resident memory of a process and its descendants, added up; memory that they share counts several times."""
    kilobytes = 0
    for process in _tree(pid):
        with suppress(OSError, IndexError):  # it ended just now, or this is no Linux
            kilobytes += int(Path(f"/proc/{process.pid}/status").read_text().partition("VmHWM:")[2].split()[0])
    return kilobytes * 1024


def _kill(pid: int) -> None:
    """End a process and all its descendants, so that none is left to take time from what is measured next."""
    processes = _tree(pid)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes[1:], timeout=10)


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]
