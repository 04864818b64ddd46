"""`folder`: your own pictures, of any size, in one folder per class: `train/CLASS/` and `test/CLASS/`, or `CLASS/`."""

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from image_classifier.data import Made, Part, digest
from image_classifier.project.hashing import files_for_dvc
from image_classifier.project.params import DataParams
from image_classifier.sources.image_files import image_suffixes, printable, read_image
from image_classifier.sources.making import split_test
from image_classifier.system.errors import UserError
from image_classifier.system.progress import progress

HOME_PAGE = ""
NO_PICTURES = ("thumbs.db", "desktop.ini")  # files that Windows leaves in folders
MOST_NAMED = 10  # broken pictures in a message

Pictures = dict[str, list[Path]]  # each class and its files, sorted by name


def make(data: DataParams) -> Made:
    """The pictures, square and upright; without train/ and test/, a stratified share of them is the test set.

    Raises:
        UserError: the folders do not make a data set, or a picture is broken and `data.broken_images` says stop.
    """
    root = Path(data.folder)
    found = find_halves(root)
    classes, parts = tuple(found[0]), read_pictures(found, data)
    if len(parts) == 1:
        (images, labels), *_ = parts
        if single := {classes[label] for label in np.flatnonzero(np.bincount(labels) == 1)}:
            raise UserError(
                f"{root}: of {_named(single)} one picture can be read, and training and test set need one "
                "each: add some, or remove that class"
            )
        parts = [*split_test(images, labels, data)]
    train, test = parts
    for part, (_, labels) in (("training", train), ("test", test)):
        if lacking := {classes[index] for index in set(range(len(classes))) - set(labels.tolist())}:
            raise UserError(
                f"{root}: the {part} set has no picture of {_named(lacking)}: add some, or raise or lower "
                "data.test_share"
            )
    return classes, train, test


def find_halves(root: Path) -> list[Pictures]:
    """The pictures of train/ and of test/, with the same classes; or without these folders, of all classes.

    Raises:
        UserError: there are links, hidden files or other folders of which DVC or a training would take no notice, or
            what `find_pictures` raises.
    """
    for path in root.rglob("*"):
        if path.is_symlink() and path.is_dir():
            raise UserError(
                f"{printable(path)} is a link to a folder, in which DVC sees no change: move that folder "
                "here, or let data.folder lead to where all classes are"
            )
        if path.is_symlink() and not path.exists():
            raise UserError(f"{printable(path)} is a link to a file that is not there, at which DVC fails: remove it")
    halves = [root / "train", root / "test"]
    # Beside classes such as bus and lorry, `train` is a class, too: it has pictures in it, and no folders.
    is_split = all(half.is_dir() for half in halves) or any([*half.glob("[!.]*/")] for half in halves)
    others = [path for path in _visible(root) if path.is_dir() and path not in halves] if is_split else []
    if others:
        raise UserError(
            f"{printable(others[0])} lies beside train and test, and only these are used: rename it, if it "
            "is to be one of them, or move its pictures into train, of which data.validation_images holds "
            "some out, or elsewhere"
        )
    found = [find_pictures(folder) for folder in (halves if is_split else [root])]
    seen = {root / name for name in files_for_dvc(root)}
    files = (file for pictures in found for of_class in pictures.values() for file in of_class)
    if unseen := next((file for file in files if file.is_file() and file not in seen), None):
        raise UserError(
            f"{printable(unseen)} is named in .dvcignore, so DVC would see no change of it: name another "
            "folder in data.folder, or correct .dvcignore"
        )
    if different := found[0].keys() ^ found[-1].keys():
        raise UserError(f"{root}: train and test must have the same classes; only one of them has {_named(different)}")
    return found


def find_pictures(folder: Path) -> Pictures:
    """The pictures of each class.

    Raises:
        UserError: there are fewer than two classes, or their folders are not as they must be.
    """
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {printable(folder)}: make it, with one folder of pictures per class, or "
            "name another in data.folder"
        )
    pictures: Pictures = {}
    for entry in _visible(folder):
        if entry.is_dir():
            name = unicodedata.normalize("NFC", entry.name)
            if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
                raise UserError(
                    f"class {name!r} has a line break, tab or damaged character in its name: rename its folder"
                )
            if name in pictures:  # a letter with an accent is one character or two
                raise UserError(f"{printable(folder)} has two folders {name!r} that differ in Unicode form: rename one")
            pictures[name] = _visible(entry)
        elif entry.name.lower().endswith(image_suffixes()):
            raise UserError(f"{printable(entry)} lies beside the folders of the classes: move it into one of them")
    if len(pictures) < 2:
        raise UserError(
            f"{printable(folder)} needs two or more classes, each a folder of pictures; it has {_named(pictures)}"
        )
    for name, files in pictures.items():
        if not files:
            raise UserError(f"class {_named([name])} has no pictures: add some, or remove its folder from {folder}")
        if inner := next((file for file in files if file.is_dir()), None):
            raise UserError(f"{printable(inner)} is a folder inside a class: move its pictures up")
        if twin := next((other for other in pictures if other < name and other.casefold() == name.casefold()), None):
            raise UserError(f"classes {_named([twin, name])} differ only in case, which many disks ignore: rename one")
    return dict(sorted(pictures.items()))  # sorted by class: train/ and test/ may write a name in two Unicode forms


def _visible(folder: Path) -> list[Path]:
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(entry for entry in entries if entry.name.lower() not in NO_PICTURES)


def _named(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"


def read_pictures(found: Sequence[Pictures], data: DataParams) -> list[Part]:
    """For each part, the pictures that can be read, in the order of the files.

    Raises:
        UserError: a picture is broken and `data.broken_images` says stop; all broken ones are named.
    """
    parts, broken, num_files = [], [], 0
    first: dict[bytes, tuple[Path, int]] = {}  # with these pixels, and its label
    contradictions: list[str] = []
    for pictures in found:
        files = [(file, label) for label, of_class in enumerate(pictures.values()) for file in of_class]
        images = np.empty((len(files), data.image_px, data.image_px, 3), dtype=np.uint8)
        labels: list[int] = []
        for file, label in progress(files, len(files), f"reading {data.folder}"):
            try:
                images[len(labels)] = image = read_image(file, data.image_px)
                labels.append(label)
                other, its_label = first.setdefault(digest(image), (file, label))
                if its_label != label:
                    contradictions.append(f"{printable(other)} and {printable(file)}")
            except UserError as error:
                broken.append(str(error))
        parts.append((images[: len(labels)], np.array(labels, dtype=np.int64)))
        num_files += len(files)
    if broken:
        lines = [*broken[:MOST_NAMED], *(["…"] if len(broken) > MOST_NAMED else [])]
        report = "\n".join([f"{len(broken)} of {num_files:,} pictures cannot be read:", *lines])
        if data.broken_images == "stop":
            raise UserError(f"{report}\nrepair or remove them, or leave them out with data.broken_images: leave_out")
        print(f"{report}\nleft out, as data.broken_images says", file=sys.stderr)
    for pair in contradictions[:MOST_NAMED]:
        print(
            f"warning: {pair} are the same picture in two classes, {len(contradictions)} such in all", file=sys.stderr
        )
    return parts
