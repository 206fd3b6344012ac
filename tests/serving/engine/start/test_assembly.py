"""Engines built from settings."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import pytest

from offramp.bundle.manifest import Manifest
from serving.engine.start.assembly import Siblings, build_engine
from serving.settings import Settings


def test_the_largest_batch_is_measured_unless_it_is_set(
    bundle: Path, manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serving.engine")
    engine, _ = build_engine(Settings(bundle=bundle, max_batch=3), manifest)
    assert caplog.messages == []
    assert engine.max_batch == 3
    engine, _ = build_engine(Settings(bundle=bundle, slots=4, max_images=4), manifest)
    assert engine.max_batch == 4
    (message,) = caplog.messages
    assert message == "a batch has at most 4 images (max_batch sets another number)"


def test_times_are_measured_once_as_long_as_a_model_has_them(
    bundle: Path, manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serving.engine")
    siblings, settings = Siblings(), Settings(bundle=bundle, slots=4, max_images=4)
    first = build_engine(settings, manifest, siblings=siblings)[0]
    first.latency.observe(0, 1, 1.0)
    second = build_engine(settings, manifest, siblings=siblings)[0]
    assert len(caplog.messages) == 1
    assert second.max_batch == first.max_batch == 4
    assert second.latency.measured is first.latency.measured
    assert second.latency.time(0, 1) < first.latency.time(0, 1)
    del first, second
    gc.collect()
    build_engine(settings, manifest, siblings=siblings)
    assert len(caplog.messages) == 2
