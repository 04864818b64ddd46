"""Every shell block of the README and of docs/ runs as it is printed, in a clone with tiny settings.

All blocks share the clone and run in the order of the pages, as a reader would. A block that cannot run here has the
reason in a comment above it: `<!-- not run by the tests: needs two machines -->`; pytest lists it as skipped.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image
from ruamel.yaml import YAML
from support.project import PROJECT, TINY, make_digits
from support.servers import free_port

from image_classifier.project.recipes import overlay

PAGES = [
    PROJECT / "README.md",
    PROJECT / "docs" / "changing-things.md",  # before the other pages, which use its results
    *sorted(PROJECT.glob("docs/*.md")),
]
BLOCK = re.compile(r"^(?:<!-- not run by the tests: (?P<reason>[^\n]*?) -->\n+)?```sh\n(?P<text>.*?)^```$", re.S | re.M)
QUICK = {"train": {"epochs": 1, "peak_epoch": 0.5}}  # as the experiment in docs/changing-things.md, so DVC caches it
SERVES = re.compile(r"^(make (?:ui|app)|(?:\w+=\S+ )*mlflow (?:models serve|server)) ?[^#\n]*")

# Replaces a reader's own paths, and numbers of seeds, which take hours.
READERS = {
    "/path/or/s3://bucket/folder": "../storage",
    "/path/to/cifar-10-batches-py": "$PWD/data",
    "pipeline.seeds 5": "pipeline.seeds 1",
    "pipeline.seeds 3": "pipeline.seeds 1",
}


class Block(NamedTuple):
    page: str
    line: int
    text: str
    reason: str | None  # why it cannot run here

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def all_blocks() -> list[Block]:
    found = {}
    for page in PAGES:
        content = page.read_text(encoding="utf-8")
        for block in BLOCK.finditer(content):
            line = 1 + content[: block.start("text")].count("\n")
            name = str(page.relative_to(PROJECT))
            found[name, line] = Block(name, line, block["text"], block["reason"])
    return list(found.values())


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with tiny settings, whose origin can be pushed to."""
    folder, origin = tmp_path_factory.mktemp("docs") / "clone", tmp_path_factory.mktemp("origin")
    files = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=PROJECT, text=True
    )
    for name in files.splitlines():
        if (source := PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    overlay(PROJECT / "params.yaml", TINY, folder / "params.yaml")
    YAML().dump(TINY | {"runtime": {"experiment": "digits"}}, folder / "recipes" / "digits.yaml")
    YAML().dump(QUICK, folder / "recipes" / "fast90.yaml")
    (folder / "dvc.lock").unlink()
    virtual_environment(folder / ".venv")
    git = ["git", "-C", str(folder)]
    subprocess.run(["git", "init", "--quiet", "--bare", str(origin)], check=True)
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "remote", "add", "origin", str(origin)], check=True)
    subprocess.run([*git, "config", "push.autoSetupRemote", "true"], check=True)
    subprocess.run([*git, "config", "user.name", "Test"], check=True)
    subprocess.run([*git, "config", "user.email", "test@example.org"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "Tiny settings"], check=True)
    Image.fromarray(make_digits(seed=0).test_images[0]).resize((200, 150)).save(folder / "photo.jpg")
    # The demo's DVC keeps its results where the project's looks: with the same settings, nothing runs twice.
    demo = folder / "build" / "demo"
    demo.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=demo, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "cache", "dir", "--quiet", "../../.dvc/cache"], cwd=demo, check=True)
    return folder


def virtual_environment(folder: Path) -> None:
    """Make a .venv with this Python's packages that `make` finds complete."""
    folder.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name.startswith("."):
            continue
        (folder / entry.name).symlink_to(entry)
    for mark in (".runtime-installed", ".tools-installed", ".app-installed"):
        (folder / mark).touch()


@pytest.fixture(scope="module")
def servers() -> Iterator[list[int]]:
    """Process groups to end when all blocks have run."""
    groups: list[int] = []
    yield groups
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def script(block: Block, ports: dict[str, int]) -> str:
    """A block with a reader's own values; its servers run in the background, and the block waits for them."""
    text = block.text.replace("\\\n", " ")
    for theirs, ours in READERS.items():
        text = text.replace(theirs, ours)
    for written, free in ports.items():
        text = text.replace(written, str(free))
    lines = []
    for line in text.splitlines():
        if serves := SERVES.match(line):
            port = next((ports[word] for word in ports if str(ports[word]) in line), ports["5000"])
            lines += [f"{serves[0]} &", f"wait_for {port}"]
        else:
            lines.append(line)
    return "\n".join([WAIT, *lines])


WAIT = """
wait_for() { until curl -s -o /dev/null http://127.0.0.1:$1; do kill -0 $! || exit 1; sleep 0.1; done }
"""


@pytest.mark.xdist_group("docs")
@pytest.mark.parametrize("block", all_blocks(), ids=str)
def test_a_block_runs_as_it_is_printed(
    block: Block, clone: Path, servers: list[int], ports: dict[str, int], tmp_path: Path
) -> None:
    if block.reason:
        pytest.skip(f"{block}: {block.reason}")
    assert "pip install" not in block.text, f"{block} would change this very environment: give it a reason above"
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "DVC_ROOT"}}
    environment |= {
        "MLFLOW_PORT": str(ports["5000"]),
        "PIP_NO_INDEX": "1",
        "PATH": f"{clone}/.venv/bin:{environment['PATH']}",
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail", "-c", script(block, ports)],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    if any(SERVES.match(line) for line in block.text.splitlines()):
        servers.append(shell.pid)
    status = shell.wait(timeout=600)
    assert status == 0, f"{block}\n{block.text}\n{log.read_text(errors='replace')[-3000:]}"
    if "dvc queue start" in block.text:
        subprocess.run(["dvc", "queue", "stop", "--kill"], cwd=clone, env=environment, check=True)


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """Free ports in place of those that the pages name."""
    return {"5000": free_port(), "5001": free_port()}


@pytest.mark.xdist_group("docs")
def test_a_group_of_tests_stays_on_one_worker(request: pytest.FixtureRequest) -> None:
    """pytest 9.2 silently ignores groups (pytest-xdist issue 1386): blocks would run in two clones, in any order."""
    assert "PYTEST_XDIST_WORKER" not in os.environ or request.node.nodeid.endswith("@docs")


def test_every_link_leads_to_a_file_or_heading() -> None:
    for page in {*PAGES, PROJECT / "CONTRIBUTING.md"}:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            assert target.exists(), f"{page.name}: {link}"
            if anchor:
                assert anchor in headings(target), f"{page.name}: {link}"


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
