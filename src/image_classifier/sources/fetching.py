"""Files of a published data set, from a URL, an archive or a folder; each file is checked by its MD5."""

import base64
import bz2
import gzip
import hashlib
import http
import http.client
import io
import lzma
import math
import os
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import Request, url2pathname, urlopen

from tqdm import tqdm

from image_classifier.project import locations
from image_classifier.system.errors import UserError, masked

MAX_BYTES = 500_000_000  # of a download, and of all that an archive unpacks to; the largest published set has 246 MB
TIMEOUT_SECONDS = 30  # to connect, and between two reads
CHUNK_BYTES = 1 << 18
WINDOW_SECONDS = 30  # a rate is measured over this time, then shown in a log
SLOW_RATE = 100_000  # bytes/s; if slower, the next source is tried: CIFAR-10 would take more than half an hour
DEAD_RATE = 1_000  # bytes/s; if slower, the last source is given up, too: CIFAR-10 would take two days

# What reading a truncated or corrupt archive raises; RuntimeError is from zip files, such as encrypted ones.
_DAMAGE = (OSError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
_COMPRESSED: Mapping[bytes, Any] = {  # by the first bytes
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}


class SourceError(Exception):
    """Why one source cannot be used; the next one is tried."""


def fetch_files(name: str, sources: Sequence[str], checksums: Mapping[str, str]) -> dict[str, bytes]:
    """The files of data set `name`, from its first source that has all of them with these MD5s.

    A source is an archive or a folder, by its path or URL; the URL of a folder ends with a slash. They are tried in
    order, after the one in the environment variable NAME_SOURCE. Downloads are kept beside the data set. An interrupted
    download is resumed, also from another source with the same file name; a complete one needs no network.

    Raises:
        UserError: no source can be used.
    """
    variable = f"{name.upper()}_SOURCE"
    first = os.environ.get(variable)
    to_try = [*([first] if first else []), *sources]
    downloads = locations.DATA / f"{name}.downloads"
    for source, following in pairwise([*to_try, ""]):
        try:
            return _from_source(source, checksums, downloads, SLOW_RATE if following else DEAD_RATE)
        except (SourceError, OSError, RuntimeError, ValueError) as error:
            next_step = f"trying {following}" if following else "no source is left"
            print(masked(f"{source}: {' '.join(str(error).split())}; {next_step}"), file=sys.stderr)
    raise UserError(
        f"no source gave {name} ({len(to_try)} tried): with another URL of it, or offline with a copy of its archive "
        f"or of the folder in it, run `{variable}=/path/to/copy dvc repro`"
    )


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


def read_files(path: Path, checksums: Mapping[str, str]) -> dict[str, bytes]:
    """The files with these MD5s in an archive, or in a folder and its direct subfolders; or the file `path` itself.

    Raises:
        SourceError: a file is missing, damaged or altered, or the archive is not safe.
    """
    files = {}
    try:
        for name, opened in _open_files(path, checksums):
            content = _read(opened)
            found = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if found != checksums[name]:
                raise SourceError(f"{name} is damaged or altered: its MD5 is {found}, not {checksums[name]}")
            files[name] = content
    except tarfile.ReadError:
        raise SourceError("it is neither a folder nor a whole tar or zip archive") from None
    except _DAMAGE as error:
        raise SourceError(f"it cannot be read to its end: {error}") from None
    if missing := sorted(checksums.keys() - files.keys()):
        raise SourceError(f"it lacks {', '.join(missing)}")
    return files


def _open_files(path: Path, names: Container[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file called one of `names` in a folder or archive; nothing is written to disk."""
    if path.is_dir() or path.name in names:
        for file in sorted([*path.glob("*"), *path.glob("*/*")]) or [path]:
            if file.name in names and not file.is_dir():
                if not file.is_file():  # a pipe would wait for ever, a device may never end
                    raise SourceError(f"refused: its {file.name} is no file")
                yield file.name, file.open("rb")
        return
    if not path.is_file():
        raise SourceError("it is neither a file nor a folder" if path.exists() else f"there is no {path.absolute()}")
    for member, open_member in _open_zip(path) if zipfile.is_zipfile(path) else _open_tar(path):
        # Members are only read into memory, so this one can do no harm, but such an archive is not to be trusted.
        place = PurePosixPath(member)
        if place.is_absolute() or ".." in place.parts:
            raise SourceError(f"refused: its member {member} lies outside the archive's folder")
        if place.name in names and (opened := open_member()):
            yield place.name, opened


Members = Iterator[tuple[str, Callable[[], IO[bytes] | None]]]  # name, and a function that opens it


def _open_zip(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name, partial(archive.open, name)


def _open_tar(path: Path) -> Members:
    with path.open("rb") as file:
        start = file.read(8)
    opener = next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), open)
    # Unpacked in memory: only this limits the size of everything, with skipped members and long headers.
    with opener(path, "rb") as file, tarfile.open(fileobj=io.BytesIO(_read(file)), mode="r:") as archive:
        for member in archive:
            if not (member.isfile() or member.isdir()):
                raise SourceError(f"refused: its member {member.name} is a link or a device")
            yield member.name, partial(archive.extractfile, member)


def _read(file: IO[bytes]) -> bytes:
    with file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SourceError(f"refused: it has more than {MAX_BYTES // 10**6} MB")
    return content


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
    # The beginning is from an earlier call or another source, so perhaps of another archive: start again.
    return _from_url(url, checksums, download, min_rate)


def _download(url: str, download: Path, min_rate: int) -> None:
    """Append the bytes that the file lacks. After a broken connection, continue if at least one byte has arrived."""
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
    """One request: the rest of the file if the server can send it (status 206), or else the whole file."""
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
    if is_known:  # urllib does not do this; unredirected: no other host gets the password
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(unquote_to_bytes(user)).decode()}")
    return request


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


class _Pace:
    """Measures the rate of a download, across broken connections; shows it in a log, and stops a slow download."""

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
            shown = tqdm.format_meter(
                done,
                total or math.inf,
                seconds,
                unit="B",
                unit_scale=True,
                rate=rate,
                bar_format="downloaded {n_fmt}B of {total_fmt}B, {rate_fmt}, {remaining} left",
            )
            print(shown, file=sys.stderr, flush=True)
        if rate < self._min_rate:
            raise SourceError(f"it is slow, {rate / 1e3:.1f} kB/s over {seconds:.0f} s; what came is kept")
        self._since, self._received = time.monotonic(), 0
