import re

import pytest

from image_classifier.system.progress import LINE, LogLines, progress


def test_short_work_leaves_no_line_in_a_log_file_and_long_work_some(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(progress("abc", 3, "work")) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("image_classifier.system.progress.LINE_SECONDS", 1e-9)
    assert list(progress("abc", 3, "work")) == ["a", "b", "c"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r"work: \d/3 \[00:00<00:00, *\d+\.\d\dit/s\]", line) for line in lines)


def test_a_line_of_a_log_has_the_rate_and_the_time_left() -> None:
    assert LogLines.format_meter(13, 98, 90, prefix="sweep", bar_format=LINE) == "sweep: 13/98 [01:30<09:48,  6.92s/it]"
    resumed = LogLines.format_meter(13, 98, 6, prefix="epoch", initial=10, bar_format=LINE)
    assert resumed == "epoch: 13/98 [00:06<02:50,  2.00s/it]"
