from __future__ import annotations

import pytest
from pydantic import ValidationError

from offramp.bundle.manifest import Manifest
from offramp.bundle.values import MeasuredTimes, TimesOfStage

STAGE = TimesOfStage(with_head=(1.5, 9.0), without_head=(1.0, 7.0))
TIMES = MeasuredTimes(machine="a CPU", threads=1, runs=10, batches=(1, 8), stages=(STAGE,) * 4)


def test_a_manifest_with_times_has_format_3(manifest: Manifest) -> None:
    new = manifest.model_copy(update={"times": TIMES}).with_promises(None)
    assert (manifest.format, new.format) == (2, 3)
    assert Manifest.model_validate_json(new.model_dump_json()) == new
    assert "times" not in manifest.model_dump()
    old = new.model_dump() | {"format": 2}
    with pytest.raises(ValidationError, match="times: needs format 3"):
        Manifest.model_validate(old)


def test_times_of_other_stages_are_refused(manifest: Manifest) -> None:
    short = TIMES.model_copy(update={"stages": TIMES.stages[:1]})
    text = manifest.model_copy(update={"times": short, "format": 3}).model_dump_json()
    with pytest.raises(ValidationError, match="a time for each stage and batch"):
        Manifest.model_validate_json(text)
    text = manifest.model_copy(update={"priced_in": "ms"}).model_dump_json()
    with pytest.raises(ValidationError, match="priced_in: needs times"):
        Manifest.model_validate_json(text)
