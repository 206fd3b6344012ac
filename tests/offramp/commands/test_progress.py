from __future__ import annotations

import time

import pytest

from offramp.commands.progress import Progress, report_failed
from offramp.errors import OfframpError


def test_the_bar_counts_this_run_and_the_rows_before_it() -> None:
    progress = Progress(100)
    progress.skip(50)
    for number in range(25):
        progress.add(failed=number == 0)
    line = progress.line(time.monotonic() + 5)
    assert line.startswith("[##################......] 75/100 images, 1 failed, ")
    assert progress.images == 25
    assert progress.failed == 1


def test_an_empty_run_has_a_bar() -> None:
    assert "0/0 images" in Progress(0).line(time.monotonic())


def test_nothing_is_drawn_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1) as progress:
        progress.add(failed=False)
    assert capsys.readouterr() == ("", "")


def test_a_run_that_continues_an_answered_one_does_not_fail_by_its_last_images() -> None:
    first, second = Progress(3), Progress(3)
    second.skip(2)
    for progress in (first, second):
        progress.add(failed=1)
    with pytest.raises(OfframpError, match="no image has an answer"):
        report_failed(first, ["a"])
    report_failed(second, ["a"])
