"""Makes images of any format, size and mode square and RGB.

A copy of this file is kept with every served model, so it imports nothing else of this project.
"""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

# Pillow reads 40 more formats. Most do not hold pictures of things (but weather maps, video), and one starts another
# program.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
FORMATS_IN_WORDS = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"

# The turn that makes a photo upright, by the orientation that the camera noted (EXIF 2.3, section 4.6.4).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

warnings.filterwarnings("ignore", module="PIL")  # too many pixels are refused below, broken camera notes ignored


def decode_image(file: Path | BinaryIO, side_px: int) -> NDArray[np.uint8]:
    """The image in a file as uint8 (side_px, side_px, 3).

    Raises:
        ValueError: it is no readable image, or has too many pixels. The caller puts the file's name before the message.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0):
                raise Image.DecompressionBombError
            # Pillow opens a PGM of 16 bits in mode I, and scales it to 0..65535.
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
    """The image upright, square and in RGB: stretched, not cropped, as CIFAR-10's own images were made.

    An image that already has this form keeps every pixel. Transparent parts become white.
    """
    image.load()
    if (turn := _turn_upright(image)) is not None:  # the flip from left to right is number 0
        image = image.transpose(turn)
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    small = image.convert("RGB").resize((side_px, side_px), Image.Resampling.LANCZOS)
    return np.asarray(small)


def _turn_upright(image: Image.Image) -> Image.Transpose | None:
    """The turn that the camera noted; None if its notes cannot be read: viewers ignore these, too."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # decoders raise errors of many types
        return None
