"""CIFAR-10's python version from a URL, an archive or a folder: judged by the checksum of each file, then decoded."""

import hashlib
import http
import http.client
import io
import lzma
import pickle
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

import numpy as np
from tqdm import tqdm

from cifar_resnet.data import Channels, Dataset, Images, Labels
from cifar_resnet.errors import UserError

FOLDER = "cifar-10-batches-py"
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCH = "test_batch"
META = "batches.meta"

# Published with torchvision.datasets.CIFAR10.
PUBLISHED_MD5: Mapping[str, str] = {
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

# Of the 50,000 training images, by channel, as pixels / 255.
MEAN: Channels = (0.49139968, 0.48215841, 0.44653091)
STD: Channels = (0.24703223, 0.24348513, 0.26158784)

MAX_FILE_BYTES = 40_000_000  # of those that are read; the published ones have up to 31 MB
MAX_DOWNLOAD_BYTES = 300_000_000  # the published archive has 170 MB, all files unpacked 186 MB
TIMEOUT_SECONDS = 30  # to connect, and between two reads
CHUNK_BYTES = 1 << 18
LOG_BYTES = 16_000_000  # between two lines of progress in a log

# What reading a truncated or corrupt archive raises; RuntimeError comes from zip files, also from encrypted ones.
_DAMAGE = (OSError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)


class SourceError(Exception):
    """Why one source cannot be used; the next one is tried."""


def fetch_cifar10(sources: Sequence[str], checksums: Mapping[str, str], download: Path) -> Dataset:
    """CIFAR-10 from the first source (URL, archive or folder) whose files have the MD5s in `checksums`.

    A downloaded archive stays in the file `download`: an interrupted one is resumed, a whole one needs no network.

    Raises:
        UserError: no source can be used.
    """
    for source, following in pairwise([*sources, None]):
        try:
            dataset = _from_source(str(source), checksums, download)
        except SourceError as error:
            print(f"{source}: {error}; {f'trying {following}' if following else 'no source is left'}", file=sys.stderr)
        else:
            return dataset
    raise UserError(
        f"no source gave CIFAR-10 ({len(sources)} tried): add one to data.sources in params.yaml, or offline, with a "
        f"copy of its folder or archive, run `CIFAR10_SOURCE=/path/to/{FOLDER} dvc repro`"
    )


def read_cifar10(path: Path, checksums: Mapping[str, str]) -> Dataset:
    """CIFAR-10 from an archive or an extracted folder (or its parent), whose files have the MD5s in `checksums`.

    Raises:
        SourceError: a file is missing, damaged or another one.
    """
    files: dict[str, dict[bytes, Any]] = {}
    for name, content in _read_files(path, checksums):
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != checksums[name]:
            raise SourceError(f"{name} is damaged or altered: its MD5 is {found}, not {checksums[name]}")
        files[name] = _unpickle(name, content)
    if missing := sorted(checksums.keys() - files.keys()):
        raise SourceError(f"it lacks {', '.join(missing)}")
    train_images, train_labels = _join([files.pop(name) for name in TRAIN_BATCHES])
    test_images, test_labels = _join([files.pop(TEST_BATCH)])
    classes = tuple(name.decode("ascii") for name in files[META][b"label_names"])
    return Dataset("cifar10", classes, MEAN, STD, train_images, train_labels, test_images, test_labels)


def _join(batches: Sequence[dict[bytes, Any]]) -> tuple[Images, Labels]:
    """Images and labels of batches, which store each image as a red, a green and a blue plane."""
    planes = [batch[b"data"].reshape(-1, 3, 32, 32) for batch in batches]
    labels = np.concatenate([np.array(batch[b"labels"], dtype=np.int64) for batch in batches])
    images = np.empty((len(labels), 32, 32, 3), dtype=np.uint8)
    np.concatenate(planes, out=images.transpose(0, 3, 1, 2))
    return images, labels


class _Unpickler(pickle.Unpickler):
    """Makes plain containers and NumPy arrays, all that these files hold, and refuses to name anything else."""

    _ALLOWED: Mapping[tuple[str, str], Any] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],  # else only in a private module
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        return self._ALLOWED[module_name, global_name]


def _unpickle(name: str, content: bytes) -> dict[bytes, Any]:
    try:
        unpickled: dict[bytes, Any] = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except pickle.UnpicklingError as error:
        raise SourceError(f"{name} is refused: {error}") from None
    return unpickled


def _read_files(path: Path, names: Container[str]) -> Iterator[tuple[str, bytes]]:
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
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    for path in sorted(folder.iterdir()):
        if path.name in names:
            with path.open("rb") as file:
                yield path.name, _read(file, path.name)


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


def _from_source(source: str, checksums: Mapping[str, str], download: Path) -> Dataset:
    if source.startswith("file://"):
        return read_cifar10(Path(url2pathname(urlsplit(source).path)), checksums)
    if "://" in source:
        return _from_url(source, checksums, download)
    return read_cifar10(Path(source).expanduser(), checksums)


def _from_url(url: str, checksums: Mapping[str, str], download: Path) -> Dataset:
    if resumed := download.exists():
        with suppress(SourceError):
            return read_cifar10(download, checksums)
    _download(url, download)
    try:
        return read_cifar10(download, checksums)
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
