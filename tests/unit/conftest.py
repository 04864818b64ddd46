"""Tests of this folder are fast: they start no process and no server, and ask none."""

import sys
from collections.abc import Iterator

import pytest

PROCESSES = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
FORBIDDEN = PROCESSES | {"socket.bind", "socket.getaddrinfo"}
running: list[str] = []  # the test that runs


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Fail the test that does what a fast one must not do."""
    if running and event in FORBIDDEN:
        raise AssertionError(f"{running[0]} is in tests/unit and calls {event}{arguments}: tests/pipeline is its place")


sys.addaudithook(refuse)


@pytest.fixture(autouse=True)
def _start_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    running.append(request.node.name)
    yield
    running.clear()
