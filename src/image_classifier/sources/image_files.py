"""Image files: which names they have, and what is in them."""

from pathlib import Path

from PIL import Image

from image_classifier.data import Images
from image_classifier.sources.image_decoding import FORMATS, FORMATS_IN_WORDS, decode_image
from image_classifier.system.errors import UserError

LONGEST_NAME = 200  # characters of a path in a message or table


def printable(path: Path) -> str:
    """A path for people: escaped, and shortened if it is very long."""
    shown = str(path)
    if len(shown) > LONGEST_NAME:
        shown = f"{shown[: LONGEST_NAME // 2]}…{shown[-LONGEST_NAME // 2 :]}"
    return escaped(shown)


def escaped(text: str) -> str:
    """A text on one line, with line breaks, escape codes and broken characters as Python writes them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def image_suffixes() -> tuple[str, ...]:
    """The suffixes of the formats that can be read, in lower case."""
    Image.init()  # fills the table
    return tuple(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)


def read_image(path: Path, side_px: int) -> Images:
    """An image file of any size and mode as uint8 (side_px, side_px, 3).

    Raises:
        UserError: the file is no readable image, or has too many pixels.
    """
    try:
        if not path.is_file():  # a pipe would wait for ever, a device may never end
            raise ValueError(f"is no regular file, or links to none: give a {FORMATS_IN_WORDS} file")
        return decode_image(path, side_px)
    except OSError as error:
        raise UserError(f"{printable(path)} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{printable(path)} {error}") from None
