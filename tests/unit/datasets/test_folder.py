"""`data.dataset: folder`: pictures of any kind become a data set, or an error says why not."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.pictures import BLUE, RED, picture, pictures

from image_classifier.data import Dataset
from image_classifier.project.params import Params
from image_classifier.sources.image_files import read_image
from image_classifier.sources.making import make_dataset
from image_classifier.system.errors import UserError

MakeDataset = Callable[..., Dataset]


@pytest.fixture
def make(params: Params) -> MakeDataset:
    def make(folder: Path, **settings: object) -> Dataset:
        changes = {"dataset": "folder", "folder": str(folder), **settings}
        return make_dataset(params.data.model_copy(update=changes))

    return make


def test_one_folder_is_split_by_class_and_by_its_seed(make: MakeDataset, tmp_path: Path) -> None:
    dataset = make(pictures(tmp_path))
    assert dataset.classes == ("blue", "red")
    assert dataset.train_images.shape == (16, 32, 32, 3)
    assert np.bincount(dataset.test_labels).tolist() == [2, 2]
    assert np.all((dataset.train_images[..., 0].mean(axis=(1, 2)) > 100) == dataset.train_labels)  # red is class 1
    assert np.array_equal(make(tmp_path).test_images, dataset.test_images)
    assert not np.array_equal(make(tmp_path, split_seed=1).test_images, dataset.test_images)


def test_train_and_test_folders_are_taken_as_they_are(make: MakeDataset, tmp_path: Path) -> None:
    pictures(tmp_path / "train", 3)
    pictures(tmp_path / "test", 2)
    dataset = make(tmp_path, image_px=64)
    assert np.bincount(dataset.train_labels).tolist() == [3, 3]
    assert np.bincount(dataset.test_labels).tolist() == [2, 2]
    assert dataset.image_px == 64
    expected = dataset.train_images.reshape(-1, 3) / 255
    assert dataset.mean == pytest.approx(expected.mean(axis=0))
    assert dataset.std == pytest.approx(expected.std(axis=0))


def test_a_class_may_be_called_train(make: MakeDataset, tmp_path: Path) -> None:
    pictures(tmp_path / "vehicles")
    (tmp_path / "vehicles" / "red").rename(tmp_path / "vehicles" / "train")
    assert make(tmp_path / "vehicles").classes == ("blue", "train")


def test_pictures_in_which_dvc_sees_no_change_are_refused(
    make: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".dvcignore").write_text("/build\n*.jpg\n._*\n", encoding="utf-8")
    for folder, named in (("build/pictures", "blue/0.jpg"), ("pictures", "blue/0.jpg")):
        pictures(Path(folder))
        with pytest.raises(UserError, match=f"{folder}/{named} is named in .dvcignore"):
            make(Path(folder))
    for file in Path("pictures/blue").iterdir():
        file.rename(file.with_suffix(".jpeg"))
    (Path("pictures/blue") / "._0.jpeg").touch()
    assert make(Path("pictures")).classes == ("blue", "red")


def test_a_class_keeps_its_number_if_train_and_test_write_its_accent_in_two_ways(
    make: MakeDataset, tmp_path: Path
) -> None:
    for half, accent in (("train", "caf\u00e9"), ("test", "cafe\u0301")):  # beside "cafz", one sorts after, one before
        for name, colour in ((accent, RED), ("cafz", BLUE)):
            picture(tmp_path / half / name / "0.png", colour)
    dataset = make(tmp_path)
    assert dataset.classes == ("cafz", "caf\u00e9")
    for images, labels in (
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    ):
        assert [tuple(image[0, 0]) for image in images[np.argsort(labels)]] == [BLUE, RED]


def test_pictures_of_every_mode_and_orientation_are_read_upright(make: MakeDataset, tmp_path: Path) -> None:
    pictures(tmp_path)
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "I;16"):
        Image.new(mode, (50, 20)).save(tmp_path / "red" / f"mode {mode.replace(';', '')}.tiff")
    turned = Image.new("RGB", (64, 64), RED)
    turned.paste(BLUE, (0, 0, 64, 32))  # blue is above
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was held upside down
    turned.save(tmp_path / "red" / "turned.png", exif=exif)
    dataset = make(tmp_path, test_share=0.1)
    assert len(dataset.train_labels) + len(dataset.test_labels) == 28
    images = np.concatenate([dataset.train_images, dataset.test_images])
    assert any(tuple(image[0, 0]) == RED and tuple(image[31, 31]) == BLUE for image in images)


@pytest.mark.parametrize("number", range(1, 9))
def test_a_photo_of_any_orientation_is_read_as_it_is_viewed(number: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = number
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as photo:
        viewed = np.asarray(ImageOps.exif_transpose(photo))
    assert np.array_equal(read_image(tmp_path / "photo.png", 16), viewed)


def test_files_that_systems_leave_beside_pictures_are_ignored(make: MakeDataset, tmp_path: Path) -> None:
    for name in (".DS_Store", "red/.DS_Store", "red/._0.png", "red/Thumbs.db", "blue/desktop.ini", "README.txt"):
        (pictures(tmp_path) / name).write_text("x")
    assert len(make(tmp_path).train_labels) == 16


def test_all_broken_pictures_are_named_and_stop_the_stage_unless_they_may_be_left_out(
    make: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path)
    (tmp_path / "red" / "half.png").write_bytes((tmp_path / "red" / "0.png").read_bytes()[:60])
    (tmp_path / "blue" / "notes.txt").write_text("not a picture")
    with pytest.raises(UserError) as error:
        make(tmp_path)
    lines = str(error.value).splitlines()
    assert lines[0] == "2 of 22 pictures cannot be read:"
    assert "notes.txt" in lines[1]
    assert "half.png" in lines[2]
    assert lines[3] == "repair or remove them, or leave them out with data.broken_images: leave_out"
    assert len(make(tmp_path, broken_images="leave_out").train_labels) == 16
    assert "2 of 22 pictures cannot be read" in capsys.readouterr().err


def test_the_same_picture_in_two_classes_is_named(
    make: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(pictures(tmp_path) / "blue" / "x.png", (1, 2, 3))
    picture(tmp_path / "red" / "y.png", (1, 2, 3))
    make(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match("warning: .*blue/x.png and .*red/y.png are the same picture in two classes, 1 such in all", line)


def test_pictures_of_one_colour_are_refused_and_one_constant_channel_is_not(make: MakeDataset, tmp_path: Path) -> None:
    for index in range(4):
        picture(tmp_path / "one" / "a" / f"{index}.png", RED)
        picture(tmp_path / "one" / "b" / f"{index}.png", RED)
    with pytest.raises(UserError, match="all 6 training images of folder have one and the same colour"):
        make(tmp_path / "one", test_share=0.25)
    for file in (tmp_path / "one" / "b").iterdir():
        picture(file, (90, 30, 30))
    assert make(tmp_path / "one", test_share=0.25).std[1:] == (1, 1)


def remove(path: Path, *, itself: bool = False) -> None:
    for file in path.iterdir():
        remove(file, itself=True) if file.is_dir() else file.unlink()
    if itself:
        path.rmdir()


def halves(root: Path) -> Path:
    """Replace the classes in `root` by train/ and test/, each with these classes; returns `root`."""
    remove(root)
    pictures(root / "train")
    pictures(root / "test")
    return root


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda root: remove(root / "red", itself=True), r"needs two or more classes.*it has 'blue'"),
        (lambda root: remove(root / "red"), "class 'red' has no pictures"),
        (lambda root: picture(root / "red" / "dark" / "0.png"), "red/dark is a folder inside a class"),
        (lambda root: picture(root / "Red" / "0.png"), "classes 'Red', 'red' differ only in case"),
        (
            lambda root: (picture(root / "caf\u00e9" / "0.png"), picture(root / "cafe\u0301" / "1.png")),
            "two folders 'café' that differ in Unicode form",
        ),
        (lambda root: picture(root / "a\nb" / "0.png"), r"class 'a\\nb' has a line break, tab or damaged character"),
        (lambda root: picture(root / "\udcff" / "0.png"), r"class '\\udcff' has a line break, tab or damaged"),
        (lambda root: (root / "green").symlink_to("red"), "green is a link to a folder, in which DVC sees no change"),
        (lambda root: picture(root / "stray.png"), r"stray.png lies beside the folders of the classes"),
        (lambda root: picture(root / "rare" / "0.png"), "of 'rare' one picture can be read, and training and test set"),
        (lambda root: (root / "red" / "x.png").symlink_to("gone"), "x.png is a link to a file that is not there"),
        (
            lambda root: (halves(root), pictures(root / "val")),
            "val lies beside train and test, and only these are used",
        ),
        (lambda root: remove(halves(root) / "test", itself=True), "there is no folder .*/test"),
        (
            lambda root: (halves(root), picture(root / "test" / "new" / "0.png")),
            "train and test must have the same classes; only one of them has 'new'",
        ),
    ],
    ids=[
        "one class",
        "empty class",
        "inner folder",
        "case",
        "bytes",
        "line break",
        "no UTF-8",
        "link",
        "stray",
        "one picture",
        "broken link",
        "beside train and test",
        "no test",
        "differ",
    ],
)
def test_folders_that_make_no_data_set_are_refused_with_the_remedy(
    damage: Callable[[Path], object], reason: str, make: MakeDataset, tmp_path: Path
) -> None:
    damage(pictures(tmp_path / "images"))
    with pytest.raises(UserError, match=reason):
        make(tmp_path / "images")


def test_a_missing_folder_is_named_with_the_setting(make: MakeDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*missing: make it.*data\.folder"):
        make(tmp_path / "missing")
