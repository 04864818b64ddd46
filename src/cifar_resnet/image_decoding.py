"""Images of any format, size and mode, made square and RGB. A copy of this file is kept with every served model.

So it needs nothing else of this project.
"""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

# Pillow knows 40 more, most of them no pictures of things (weather maps, video), and for one it starts another program.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
FORMATS_IN_WORDS = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"

# What makes a photo upright again, by the orientation that the camera noted (EXIF 2.3, section 4.6.4).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

warnings.filterwarnings("ignore", module="PIL")  # many pixels are refused below, broken notes of a camera overlooked


def decode_image(file: Path | BinaryIO, side_px: int) -> NDArray[np.uint8]:
    """The image in a file as uint8 (side_px, side_px, 3).

    Raises:
        ValueError: it is no readable image, or has too many pixels; the message follows on the file's name.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0):
                raise Image.DecompressionBombError
            if image.mode not in ("I", "F") or (image.mode, image.format) == ("I", "PPM"):
                return _fit(image, side_px)
    except Image.DecompressionBombError:
        raise ValueError(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels: scale it down first") from None
    except UnidentifiedImageError:
        raise ValueError(f"is no image that can be read here: give a {FORMATS_IN_WORDS} file") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error}): is it complete?") from None
    except Exception as error:  # decoders raise errors of many types for damaged files
        raise ValueError(f"cannot be read ({type(error).__name__}: {error}): is it complete?") from None
    raise ValueError("has 32 bits a pixel, of unknown range: save it with 8 or 16 first")


def _fit(image: Image.Image, side_px: int) -> NDArray[np.uint8]:
    """Upright, square and in RGB: the whole image, whatever its proportions, as CIFAR-10's own were made.

    An image that has this form already keeps every pixel. What is transparent becomes white.
    """
    image.load()
    if (turn := _turn_upright(image)) is not None:  # a flip from left to right is number 0
        image = image.transpose(turn)
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    small = image.convert("RGB").resize((side_px, side_px), Image.Resampling.LANCZOS)
    return np.asarray(small)


def _turn_upright(image: Image.Image) -> Image.Transpose | None:
    """What the camera noted; nothing if its notes cannot be read, which viewers overlook too."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # errors of many types, as of the decoders
        return None
