import hashlib
import io
import os
import re
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from image_classifier.data import load_dataset
from image_classifier.datasets import cifar10
from image_classifier.project.definition import Project
from image_classifier.project.params import Params
from image_classifier.sources import fetching
from image_classifier.sources.fetching import SLOW_RATE, SourceError, fetch_files, read_files
from image_classifier.system.errors import UserError
from pipeline import download

FOLDER = "cifar-10-batches-py"
DOWNLOAD = Path("data/cifar10.downloads/cifar-10-python.tar.gz")

# --- The official layout with tiny batches ---------------------------------------------------------------------------


NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
RNG = np.random.default_rng(0)
FILES = {name: RNG.bytes(12_000) for name in [*NAMES, "batches.meta"]}


def _md5(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.md5(content).hexdigest() for name, content in files.items()}


CHECKSUMS = _md5(FILES)


def _tar(
    path: Path, files: Mapping[str, bytes] = FILES, mode: str = "gz", first: tarfile.TarInfo | None = None
) -> Path:
    with tarfile.open(path, f"w:{mode}") as archive:  # type: ignore[call-overload]
        if first:
            archive.addfile(first)
        for name, content in files.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _zip(path: Path, first: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if first:
            archive.writestr(first, "evil")
        for name, content in FILES.items():
            archive.writestr(f"{FOLDER}/{name}", content)
    return path


def _unpacked(parent: Path) -> Path:
    _folder(parent)
    return parent


def _folder(parent: Path, files: Mapping[str, bytes] = FILES) -> Path:
    folder = parent / FOLDER
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def fetch(*sources: str) -> dict[str, bytes]:
    return fetch_files("cifar10", sources, CHECKSUMS)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CIFAR10_SOURCE", raising=False)
    return tmp_path


def _begun(content: bytes) -> None:
    """Leave a partial file, as an interrupted download does."""
    DOWNLOAD.parent.mkdir(parents=True)
    DOWNLOAD.write_bytes(content)


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    return _tar(tmp_path / "served.tar.gz").read_bytes()


# --- A server on the loopback interface ------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Serves `content`, and `files` below /; stops after `limit` bytes; continues downloads if `ranges`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/cifar-10-python.tar.gz"
        self.content = b""
        self.files: Mapping[str, bytes] = {}
        self.trickle_seconds = 0.0  # between two bytes
        self.limit: int | None = None
        self.ranges = True
        self.asked: list[str | None] = []  # the Range header of each request
        self.authorization: str | None = None


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        self.server.authorization = self.headers["Authorization"]
        served = {"cifar-10-python.tar.gz": self.server.content, **self.server.files}
        name = self.path.partition("?")[0].removeprefix("/")
        content = served.get(name, b"")[start:]
        if name not in served:
            self.send_error(404)
        elif not content:
            self.send_error(416)
        else:
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.server.trickle_seconds:
                self._trickle(content)
            else:
                self.wfile.write(content[: self.server.limit])

    def _trickle(self, content: bytes) -> None:
        with suppress(OSError):  # the client has gone
            for byte in content:
                self.wfile.write(bytes([byte]))
                time.sleep(self.server.trickle_seconds)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def _served(content: bytes) -> Iterator[Server]:
    with Server() as server:
        server.content = content
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(archive: bytes) -> Iterator[Server]:
    with _served(archive) as server:
        yield server


@pytest.fixture
def slow_server(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetching, "WINDOW_SECONDS", 0.2)
    with _served(archive) as server:
        server.trickle_seconds = 0.002
        yield server


def _unused_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


# --- Good sources ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: _folder(folder),
        lambda folder: _folder(folder).parent,
        lambda folder: _tar(folder / "a.tar.gz"),
        lambda folder: _tar(folder / "a.tar", mode=""),
        lambda folder: _tar(folder / "a.tar.bz2", mode="bz2"),
        lambda folder: _tar(folder / "a.tar.xz", dict(reversed(FILES.items())), mode="xz"),
        lambda folder: _zip(folder / "a.zip"),
        lambda folder: _tar(folder / "with space.tar.gz").as_uri(),
        lambda folder: _folder(folder).as_uri(),
    ],
    ids=["folder", "parent", "tar.gz", "tar", "tar.bz2", "tar.xz reversed", "zip", "file URL", "folder URL"],
)
def test_every_kind_of_source_gives_the_bytes_that_a_download_gives(
    make: Callable[[Path], Path | str], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    assert fetch(server.url) == FILES
    assert fetch(str(make(tmp_path / "source"))) == FILES
    assert DOWNLOAD.read_bytes() == server.content


# --- Interrupted downloads -------------------------------------------------------------------------------------------


def test_a_download_continues_where_a_connection_broke(server: Server) -> None:
    server.limit = len(server.content) // 2
    fetch(server.url)
    assert server.asked[:2] == [None, f"bytes={server.limit}-"]


def test_an_earlier_interrupted_download_is_resumed(server: Server) -> None:
    _begun(server.content[:5000])
    fetch(server.url)
    assert server.asked == ["bytes=5000-"]


def test_a_whole_archive_from_an_earlier_call_needs_no_network(server: Server) -> None:
    _begun(server.content)
    fetch(server.url)
    assert server.asked == []


def test_a_server_that_cannot_resume_is_asked_for_the_whole_file(server: Server) -> None:
    server.ranges = False
    _begun(b"x" * 5000)
    fetch(server.url)
    assert server.asked == ["bytes=5000-"]


def test_a_download_begun_from_another_archive_starts_again(server: Server) -> None:
    _begun(b"x" * 5000)
    fetch(server.url)
    assert server.asked == ["bytes=5000-", None]


def test_a_partial_download_is_kept_when_a_server_fails_for_good(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.limit, server.ranges = 5000, False
    with pytest.raises(UserError):
        fetch(server.url)
    assert "the connection closed after 5,000 of" in capsys.readouterr().err
    assert DOWNLOAD.read_bytes() == server.content[:5000]


def test_a_log_shows_size_rate_and_time_left(
    slow_server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetching, "DEAD_RATE", 0)
    slow_server.content = slow_server.content[:300]
    with pytest.raises(UserError):
        fetch(slow_server.url)
    begun, *lines, _ = capsys.readouterr().err.splitlines()
    assert begun == f"downloading {slow_server.url}"
    assert lines
    assert all(re.fullmatch(r"downloaded [\d.]+B of 300B, [\d.]+B/s, \d\d:\d\d left", line) for line in lines)


def test_a_slow_source_is_left_and_the_next_one_continues_its_download(
    slow_server: Server, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(slow_server.url, server.url) == FILES
    assert re.fullmatch(r"bytes=[1-9]\d*-", str(server.asked[0]))
    assert re.search(
        rf"{slow_server.url}: it is slow, 0\.\d kB/s over 0 s; what came is kept; trying {server.url}\n",
        capsys.readouterr().err,
    )


def test_the_last_source_may_be_slow_but_not_dead(slow_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetching.DEAD_RATE < SLOW_RATE
    with pytest.raises(UserError, match="1 tried"):
        fetch(slow_server.url)
    assert "what came is kept; no source is left" in capsys.readouterr().err
    assert slow_server.content.startswith(DOWNLOAD.read_bytes())


def test_a_url_with_a_slash_at_its_end_is_a_folder_whose_files_are_fetched_one_by_one(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files = dict(FILES)
    folder = server.url.rpartition("/")[0] + "/"
    assert fetch(folder) == FILES
    server.asked.clear()
    (DOWNLOAD.parent / "test_batch").write_bytes(FILES["test_batch"][:100])
    assert fetch(folder) == FILES
    assert server.asked == ["bytes=100-"]
    server.files = {**FILES, "test_batch": FILES["data_batch_1"]}
    (DOWNLOAD.parent / "test_batch").unlink()
    with pytest.raises(UserError):
        fetch(folder)
    assert "test_batch is damaged or altered" in capsys.readouterr().err


# --- Bad sources -----------------------------------------------------------------------------------------------------


def test_a_bad_source_names_itself_the_reason_and_the_next_one(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {
        str(tmp_path / "missing"): f"there is no {tmp_path / 'missing'}",
        f"http://127.0.0.1:{_unused_port()}/a.tar.gz": "[Errno 111] Connection refused",
        server.url + ".bz2": "HTTP Error 404: Not Found",
        "s3://bucket/cifar": "unknown url type: s3",
        "/dev/zero": "it is neither a file nor a folder",
        "~nouser/x": "Could not determine home directory.",
        "file://[::1/x": "Invalid IPv6 URL",
        "http://[::1/x": "Invalid IPv6 URL",
        "FILE:///dev/zero": "it is neither a file nor a folder",
        __file__: "it is neither a folder nor a whole tar or zip archive",
        str(_folder(tmp_path, {name: FILES[name] for name in NAMES[1:]})): "it lacks batches.meta, data_batch_1",
    }
    fetch(*bad, server.url)
    lines = capsys.readouterr().err.splitlines()
    for (source, reason), following in zip(bad.items(), [*list(bad)[1:], server.url], strict=True):
        assert f"{source}: {reason}; trying {following}" in lines


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_archive_is_refused_and_not_kept(
    share: float, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.content = server.content[: int(share * len(server.content))] or b"\n"
    with pytest.raises(UserError):
        fetch(server.url)
    assert f"{server.url}: it " in capsys.readouterr().err
    assert not DOWNLOAD.exists()


def test_a_flipped_bit_is_refused_with_the_name_of_its_file(tmp_path: Path) -> None:
    flipped = bytearray(FILES["data_batch_3"])
    flipped[len(flipped) // 2] ^= 1
    archive = _tar(tmp_path / "a.tar", FILES | {"data_batch_3": bytes(flipped)}, mode="")
    with pytest.raises(SourceError, match="data_batch_3 is damaged or altered"):
        read_files(archive, CHECKSUMS)


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        _member("../escaped"),
        _member("/tmp/escaped"),
        _member(f"{FOLDER}/../../escaped"),
        _member("escaped", tarfile.SYMTYPE, "/etc/passwd"),
        _member("escaped", tarfile.LNKTYPE, "../../escaped"),
        _member("escaped", tarfile.CHRTYPE),
        _member("escaped", tarfile.FIFOTYPE),
    ],
    ids=["parent", "absolute", "dots inside", "symbolic link", "hard link", "device", "pipe"],
)
def test_an_archive_with_an_unsafe_member_is_refused_by_the_members_name(
    member: tarfile.TarInfo, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.content = _tar(tmp_path / "a.tar.gz", first=member).read_bytes()
    before = {*tmp_path.rglob("*"), *(tmp_path / folder for folder in DOWNLOAD.parents)}
    with pytest.raises(UserError):
        fetch(server.url)
    assert f"{server.url}: refused: its member {member.name} " in capsys.readouterr().err
    assert {*tmp_path.rglob("*"), tmp_path} == before


@pytest.mark.parametrize("make", [_tar, _zip, _unpacked])
def test_a_file_that_unpacks_to_more_than_any_published_one_is_not_read_whole(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MAX_BYTES", 10_000)
    with pytest.raises(SourceError, match=r"^refused: it has more than 0 MB$"):
        read_files(make(tmp_path / "source"), CHECKSUMS)


def test_a_server_that_sends_without_end_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetching, "MAX_BYTES", 1_000)
    with pytest.raises(UserError):
        fetch(server.url)
    assert f"{server.url}: refused: it sends more than 0 MB" in capsys.readouterr().err
    assert not DOWNLOAD.exists()


def test_a_zip_with_a_path_escaping_member_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"its member \.\./escaped lies outside"):
        read_files(_zip(tmp_path / "a.zip", first="../escaped"), CHECKSUMS)


def test_a_skipped_member_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetching, "MAX_BYTES", 1_000_000)
    bomb = tmp_path / "bomb.tar.gz"
    _tar(bomb, {"readme.html": bytes(2_000_000)} | FILES)
    assert bomb.stat().st_size < 500_000
    assert fetch(str(bomb), server.url) == FILES
    assert f"{bomb}: refused: it has more than 1 MB; trying" in capsys.readouterr().err


def test_a_folder_with_a_pipe_among_its_files_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {name: FILES[name] for name in NAMES})
    os.mkfifo(folder / "batches.meta")
    with pytest.raises(SourceError, match=r"its batches\.meta is no file"):
        read_files(folder, CHECKSUMS)


def test_user_and_password_reach_the_server_and_nothing_else(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = server.url.replace("//", "//user:p%40ss@")
    monkeypatch.setenv("CIFAR10_SOURCE", f"{secret}.missing?token=abcdef")
    fetch(secret)
    assert server.authorization == "Basic dXNlcjpwQHNz"  # user:p@ss
    shown = capsys.readouterr().err
    assert f"downloading {server.url.replace('//', '//user:***@')}\n" in shown
    assert "?token=***" in shown
    assert not re.search("p%40ss|p@ss|abcdef", shown)


# --- The stage -------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(params: Params, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run the stage for a data set and CIFAR-10's sources."""

    def run(dataset: str, *sources: str) -> None:
        monkeypatch.setattr(cifar10, "SOURCES", sources)
        data = params.data.model_copy(update={"dataset": dataset})
        download.run(data, params.model, params.train, Project(params, {}, {}))

    return run


def test_the_stage_writes_digits_without_any_source(
    run: Callable[..., None], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("digits")
    assert load_dataset(project / "data" / "digits").name == "digits"
    assert capsys.readouterr().out == "data/digits: 1,438 training and 359 test images of 32 px in 10 classes\n"


def test_the_environment_names_the_first_source_and_failure_says_what_to_do_offline(
    run: Callable[..., None], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _folder(project)
    monkeypatch.setenv("CIFAR10_SOURCE", str(project))
    with pytest.raises(UserError, match=r"2 tried.*offline.*`CIFAR10_SOURCE=/path/to/copy dvc repro`"):
        run("cifar10", "elsewhere")
    first, second = capsys.readouterr().err.splitlines()
    published = CIFAR10.meta["md5"]
    assert first.startswith(f"{project}: batches.meta is damaged or altered: ")
    assert first.endswith(f", not {published}; trying elsewhere")
    assert second == f"elsewhere: there is no {project / 'elsewhere'}; no source is left"
    assert not (project / "data").exists()


def test_without_any_source_the_message_is_the_same(run: Callable[..., None]) -> None:
    with pytest.raises(UserError, match=r"0 tried.*CIFAR10_SOURCE="):
        run("cifar10")
