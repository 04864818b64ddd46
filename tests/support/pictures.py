"""Folders of one-coloured pictures, one per class."""

from pathlib import Path

from PIL import Image

RED, BLUE = (200, 30, 30), (20, 40, 220)


def picture(path: Path, colour: tuple[int, ...] = RED, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def pictures(folder: Path, number: int = 10) -> Path:
    for index in range(number):
        picture(folder / "red" / f"{index}.png", (200, index, 0))
        picture(folder / "blue" / f"{index}.jpg", BLUE, (17 + index, 60))
    return folder
