"""Files of a published data set, from a URL, an archive or a folder; judged by the checksum of each file."""

import hashlib
import http
import http.client
import lzma
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from tqdm import tqdm

from cifar_resnet.errors import UserError

MAX_FILE_BYTES = 40_000_000  # of those that are read; the published ones have up to 31 MB
MAX_DOWNLOAD_BYTES = 300_000_000  # the published archive has 170 MB, all files unpacked 186 MB
TIMEOUT_SECONDS = 30  # to connect, and between two reads
CHUNK_BYTES = 1 << 18
LOG_BYTES = 16_000_000  # between two lines of progress in a log

# What reading a truncated or corrupt archive raises; RuntimeError comes from zip files, also from encrypted ones.
_DAMAGE = (OSError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)


class SourceError(Exception):
    """Why one source cannot be used; the next one is tried."""


def fetch_files(name: str, sources: Sequence[str], checksums: Mapping[str, str], download: Path) -> dict[str, bytes]:
    """The files of data set `name` from the first source (URL, archive or folder) that has all with these MD5s.

    A downloaded archive stays in the file `download`: an interrupted one is resumed, a whole one needs no network.

    Raises:
        UserError: no source can be used.
    """
    for source, following in pairwise([*sources, None]):
        try:
            return _from_source(str(source), checksums, download)
        except SourceError as error:
            print(f"{source}: {error}; {f'trying {following}' if following else 'no source is left'}", file=sys.stderr)
    raise UserError(
        f"no source gave {name} ({len(sources)} tried): add one to data.sources.{name} in params.yaml, or offline, "
        f"with a copy of its archive or of the folder in it, run `{name.upper()}_SOURCE=/path/to/copy dvc repro`"
    )


def read_files(path: Path, checksums: Mapping[str, str]) -> dict[str, bytes]:
    """The files with these MD5s in an archive, in a folder, or in a folder of that folder.

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
        if not path.exists():
            raise SourceError(f"there is no {path.absolute()}")
        if path.is_dir():
            yield from _read_folder(path, names)
        elif zipfile.is_zipfile(path):
            yield from _read_zip(path, names)
        elif tarfile.is_tarfile(path):
            yield from _read_tar(path, names)
        else:
            raise SourceError("it is neither a folder nor a whole tar or zip archive")
    except _DAMAGE as error:
        raise SourceError(f"it cannot be read to its end: {' '.join(str(error).split())}") from None


def _read_folder(path: Path, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    for file in sorted([*path.glob("*"), *path.glob("*/*")]):
        if file.name in names:
            with file.open("rb") as opened:
                yield file.name, _read(opened, file.name)


def _read_tar(path: Path, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            _refuse_unsafe(member.name)
            if not (member.isfile() or member.isdir()):
                raise SourceError(f"refused: its member {member.name} is a link or a device")
            name = PurePosixPath(member.name).name
            if name in names and (file := archive.extractfile(member)):
                yield name, _read(file, name)


def _read_zip(path: Path, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            _refuse_unsafe(member)
            name = PurePosixPath(member).name
            if name in names:
                with archive.open(member) as file:
                    yield name, _read(file, name)


def _read(file: IO[bytes], name: str) -> bytes:
    content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise SourceError(f"refused: its {name} has more than {MAX_FILE_BYTES // 10**6} MB")
    return content


def _refuse_unsafe(member: str) -> None:
    """Members are read into memory, so none could land anywhere; but an archive that tries is not to be trusted."""
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts:
        raise SourceError(f"refused: its member {member} lies outside the archive's folder")


def _from_source(source: str, checksums: Mapping[str, str], download: Path) -> dict[str, bytes]:
    if source.startswith("file://"):
        return read_files(Path(url2pathname(urlsplit(source).path)), checksums)
    if "://" in source:
        return _from_url(source, checksums, download)
    return read_files(Path(source).expanduser(), checksums)


def _from_url(url: str, checksums: Mapping[str, str], download: Path) -> dict[str, bytes]:
    if resumed := download.exists():
        with suppress(SourceError):
            return read_files(download, checksums)
    _download(url, download)
    try:
        return read_files(download, checksums)
    except SourceError:
        download.unlink(missing_ok=True)
        if not resumed:
            raise
    # The beginning came from an earlier call, so perhaps from another archive than the rest.
    return _from_url(url, checksums, download)


def _download(url: str, download: Path) -> None:
    """Append to the file what it lacks; a broken connection is taken up for as long as bytes arrive."""
    print(f"downloading {url}", file=sys.stderr)
    download.parent.mkdir(parents=True, exist_ok=True)
    while True:
        num_bytes = _size(download)
        try:
            return _transfer(url, download)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if _size(download) <= num_bytes:
                raise SourceError(str(error.reason if type(error) is URLError else error)) from None


def _transfer(url: str, download: Path) -> None:
    """One request: the rest of the file if the server can (status 206), else the whole of it."""
    start = _size(download)
    headers = {"User-Agent": "cifar-resnet"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        # Any scheme will do: the checksums judge what arrives.
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)  # noqa: S310
    except HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is lacking; the checksums decide
        raise
    with response:
        start = start if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        length = response.headers["Content-Length"]
        total = start + int(length) if length else None
        with download.open("ab" if start else "wb") as file:
            chunks = iter(lambda: response.read(CHUNK_BYTES), b"")
            for chunk in _with_progress(chunks, start, total):
                if file.write(chunk) and file.tell() > MAX_DOWNLOAD_BYTES:
                    download.unlink()
                    raise SourceError(f"refused: it sends more than {MAX_DOWNLOAD_BYTES // 10**6} MB")
    if total is not None and _size(download) < total:
        raise ConnectionError(f"the connection closed after {_size(download):,} of {total:,} bytes")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _with_progress(chunks: Iterator[bytes], start: int, total: int | None) -> Iterator[bytes]:
    """Pass chunks on, showing a bar in a terminal and plain lines elsewhere."""
    of_total = f" of {total / 1e6:.0f}" if total else ""
    with tqdm(initial=start, total=total, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        done, logged = start, start
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))
            done += len(chunk)
            if bar.disable and done - logged >= LOG_BYTES:
                logged = done
                print(f"downloaded {done / 1e6:.0f}{of_total} MB", file=sys.stderr)
