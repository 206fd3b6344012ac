import re

import pytest

from benchmarks.training.photos.decoding import main
from tests.training.samples import PARQUET


def test_the_command_measures_reading_from_files_and_from_the_cache(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = f"decoding --data {PARQUET} --photos 6 --size 24 --megapixels 0.5"
    monkeypatch.setattr("sys.argv", command.split())
    assert main() == 0
    printed = capsys.readouterr().out
    for name in ("from the file", "from the cache", "shrinking, once"):
        assert re.search(rf"{name} +\d+\.\d\d$", printed, re.MULTILINE)
    assert float(re.findall(r"kB in the cache +(\d+\.\d)", printed)[0]) > 0
