"""Files of a published data set, from a URL, an archive or a folder; judged by the checksum of each file."""

import base64
import bz2
import gzip
import hashlib
import http
import http.client
import io
import lzma
import os
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import Request, url2pathname, urlopen

from tqdm import tqdm

from cifar_resnet import layout
from cifar_resnet.errors import UserError
from cifar_resnet.masking import masked

MAX_BYTES = 500_000_000  # of a download, and of all that an archive unpacks to; the largest published set has 246 MB
TIMEOUT_SECONDS = 30  # to connect, and between two reads
CHUNK_BYTES = 1 << 18
WINDOW_SECONDS = 30  # over which a rate is measured; then it is also shown in a log
SLOW_RATE = 100_000  # bytes/s, below which the next source is tried: CIFAR-10 would take more than half an hour
DEAD_RATE = 1_000  # bytes/s, below which even the last source is left: CIFAR-10 would take two days

# What reading a truncated or corrupt archive raises; RuntimeError comes from zip files, also from encrypted ones.
_DAMAGE = (OSError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
_COMPRESSED: Mapping[bytes, Any] = {  # by the first bytes
    b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ": lzma.LZMAFile,
}  # fmt: skip


class SourceError(Exception):
    """Why one source cannot be used; the next one is tried."""


def fetch_files(name: str, sources: Mapping[str, Sequence[str]], checksums: Mapping[str, str]) -> dict[str, bytes]:
    """The files of data set `name` from the first of its sources that has all with these MD5s.

    A source is an archive or a folder, by its path or URL; the URL of a folder ends with a slash. The environment
    variable NAME_SOURCE goes first. Downloads are kept beside the data set: an interrupted one is resumed, also from
    another source where it has the same name, and a whole one needs no network.

    Raises:
        UserError: no source can be used.
    """
    variable = f"{name.upper()}_SOURCE"
    first = os.environ.get(variable)
    to_try = [*([first] if first else []), *sources.get(name, ())]
    downloads = layout.DATA / f"{name}.downloads"
    for source, following in pairwise([*to_try, ""]):
        try:
            return _from_source(source, checksums, downloads, SLOW_RATE if following else DEAD_RATE)
        except (SourceError, OSError, RuntimeError, ValueError) as error:
            next_step = f"trying {following}" if following else "no source is left"
            print(masked(f"{source}: {' '.join(str(error).split())}; {next_step}"), file=sys.stderr)
    raise UserError(
        f"no source gave {name} ({len(to_try)} tried): add one to data.sources.{name} in params.yaml, or offline, "
        f"with a copy of its archive or of the folder in it, run `{variable}=/path/to/copy dvc repro`"
    )


def read_files(path: Path, checksums: Mapping[str, str]) -> dict[str, bytes]:
    """The files with these MD5s in an archive, in a folder, or in a folder of that folder; or the one that `path` is.

    Raises:
        SourceError: a file is missing, damaged or another one.
    """
    files = {}
    for name, content in _read_named(path, checksums):
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != checksums[name]:
            raise SourceError(f"{name} is damaged or altered: its MD5 is {found}, not {checksums[name]}")
        files[name] = content
    if missing := sorted(checksums.keys() - files.keys()):
        raise SourceError(f"it lacks {', '.join(missing)}")
    return files


def _read_named(path: Path, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file in a folder or archive that is among `names`; nothing is written to disk."""
    try:
        if path.is_dir():
            for file in sorted([*path.glob("*"), *path.glob("*/*")]):
                if file.name in names and not file.is_dir():
                    yield file.name, _read_file(file)
        elif path.name in names:
            yield path.name, _read_file(path)
        elif not path.exists():
            raise SourceError(f"there is no {path.absolute()}")
        elif not path.is_file():
            raise SourceError("it is neither a file nor a folder")
        elif zipfile.is_zipfile(path):
            yield from _read_zip(path, names)
        else:
            yield from _read_tar(path, names)
    except tarfile.ReadError:
        raise SourceError("it is neither a folder nor a whole tar or zip archive") from None
    except _DAMAGE as error:
        raise SourceError(f"it cannot be read to its end: {error}") from None


def _read_file(path: Path) -> bytes:
    if not path.is_file():  # a pipe would wait for ever, a device may never end
        raise SourceError(f"refused: its {path.name} is no file")
    with path.open("rb") as file:
        return _Bounded(file).read()


def _read_tar(path: Path, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as file:
        start = file.read(8)
    opener = next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), open)
    with opener(path, "rb") as file, tarfile.open(fileobj=_Bounded(file), mode="r|") as archive:
        for member in archive:
            _refuse_unsafe(member.name)
            if not (member.isfile() or member.isdir()):
                raise SourceError(f"refused: its member {member.name} is a link or a device")
            name = PurePosixPath(member.name).name
            if name in names and (content := archive.extractfile(member)):
                yield name, content.read()


def _read_zip(path: Path, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            _refuse_unsafe(member)
            name = PurePosixPath(member).name
            if name in names:
                with archive.open(member) as file:
                    yield name, _Bounded(file).read()


class _Bounded(io.RawIOBase):
    """What an archive unpacks to, skipped members included; too much of it is refused."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = MAX_BYTES

    def read(self, size: int = -1, /) -> bytes:
        content = self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise SourceError(f"refused: it has more than {MAX_BYTES // 10**6} MB")
        return content


def _refuse_unsafe(member: str) -> None:
    """Members are read into memory, so none could land anywhere; but an archive that tries is not to be trusted."""
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts:
        raise SourceError(f"refused: its member {member} lies outside the archive's folder")


def _from_source(source: str, checksums: Mapping[str, str], downloads: Path, min_rate: int) -> dict[str, bytes]:
    if "://" not in source:
        return read_files(Path(source).expanduser(), checksums)
    address = urlsplit(source)
    if address.scheme == "file":
        return read_files(Path(url2pathname(address.path)), checksums)
    if not address.path.endswith("/"):
        return _from_url(source, checksums, downloads / (PurePosixPath(address.path).name or "archive"), min_rate)
    files: dict[str, bytes] = {}
    for name, checksum in checksums.items():
        url = address._replace(path=address.path + name).geturl()
        files |= _from_url(url, {name: checksum}, downloads / name, min_rate)
    return files


def _from_url(url: str, checksums: Mapping[str, str], download: Path, min_rate: int) -> dict[str, bytes]:
    if resumed := download.exists():
        with suppress(SourceError):
            return read_files(download, checksums)
    _download(url, download, min_rate)
    try:
        return read_files(download, checksums)
    except SourceError:
        download.unlink(missing_ok=True)
        if not resumed:
            raise
    # The beginning came from an earlier call or another source, so perhaps from another archive than the rest.
    return _from_url(url, checksums, download, min_rate)


def _download(url: str, download: Path, min_rate: int) -> None:
    """Append to the file what it lacks; a broken connection is taken up for as long as bytes arrive."""
    print(masked(f"downloading {url}"), file=sys.stderr)
    download.parent.mkdir(parents=True, exist_ok=True)
    pace = _Pace(min_rate)
    while True:
        num_bytes = _size(download)
        try:
            return _transfer(url, download, pace)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if _size(download) <= num_bytes:
                raise SourceError(str(error.reason if type(error) is URLError else error)) from None


def _transfer(url: str, download: Path, pace: "_Pace") -> None:
    """One request: the rest of the file if the server can (status 206), else the whole of it."""
    start = _size(download)
    try:
        # Any scheme will do: the checksums judge what arrives.
        response = urlopen(_request(url, start), timeout=TIMEOUT_SECONDS)  # noqa: S310
    except HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is lacking; the checksums decide
        raise
    with response:
        start = start if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        length = response.headers["Content-Length"]
        total = start + int(length) if length else None
        bar = tqdm(initial=start, total=total, unit="B", unit_scale=True, disable=not sys.stderr.isatty())
        with download.open("ab" if start else "wb") as file, bar:
            while chunk := response.read1(CHUNK_BYTES):
                file.write(chunk)
                if file.tell() > MAX_BYTES:
                    download.unlink()
                    raise SourceError(f"refused: it sends more than {MAX_BYTES // 10**6} MB")
                bar.update(len(chunk))
                pace.add(len(chunk), file.tell(), total)
    if total is not None and _size(download) < total:
        raise ConnectionError(f"the connection closed after {_size(download):,} of {total:,} bytes")


def _request(url: str, start: int) -> Request:
    address = urlsplit(url)
    user, is_known, host = address.netloc.rpartition("@")
    headers = {"User-Agent": "cifar-resnet"} | ({"Range": f"bytes={start}-"} if start else {})
    request = Request(address._replace(netloc=host).geturl(), headers=headers)  # noqa: S310
    if is_known:  # which urllib cannot do; unredirected: no other host gets the password
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(unquote_to_bytes(user)).decode()}")
    return request


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


class _Pace:
    """Measures the rate of a download, over broken connections as well; shows it in a log, and refuses a slow one."""

    def __init__(self, min_rate: int) -> None:
        self._min_rate = min_rate
        self._since = time.monotonic()
        self._received = 0

    def add(self, num_bytes: int, done: int, total: int | None) -> None:
        self._received += num_bytes
        seconds = time.monotonic() - self._since
        if seconds < WINDOW_SECONDS:
            return
        rate = self._received / seconds
        if not sys.stderr.isatty():
            of_total = f" of {total / 1e6:.0f}" if total else ""
            left = f", {tqdm.format_interval((total - done) / rate)} left" if total else ""
            print(f"downloaded {done / 1e6:.0f}{of_total} MB, {rate / 1e3:.0f} kB/s{left}", file=sys.stderr, flush=True)
        if rate < self._min_rate:
            raise SourceError(f"it is slow, {rate / 1e3:.1f} kB/s over {seconds:.0f} s; what came is kept")
        self._since, self._received = time.monotonic(), 0
