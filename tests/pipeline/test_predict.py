"""The command that predicts image files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from support.project import PROJECT


def test_exif_data_that_cannot_be_read_is_ignored_without_a_message(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.jpg", exif=b"Exif\0\0II*\0" + b"\xff" * 200)
    code = "import pathlib, image_classifier.sources.image_files as f; f.read_image(pathlib.Path('photo.jpg'), 32)"
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_prints_a_line_per_image_and_writes_overlays(two_pictures: Path) -> None:
    command = [sys.executable, "-m", "pipeline.predict", "pictures", "--top", "2", "--gradcam", "heat"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(PROJECT)}, stdout=subprocess.PIPE, text=True, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["pictures/3.png", "pictures/7.png"]
    assert all(len(row) == 5 and row[2].endswith("%") and row[4].endswith("%") for row in rows)
    assert sorted(path.name for path in Path("heat").iterdir()) == ["0001_3.png", "0002_7.png"]
    with Image.open("heat/0001_3.png") as picture, Image.open(two_pictures / "3.png") as original:
        assert picture.size == (512, 256)
        left = np.asarray(picture.crop((0, 0, 256, 256)).resize((32, 32), Image.Resampling.NEAREST))
        np.testing.assert_array_equal(left, np.asarray(original))
