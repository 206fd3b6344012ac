"""Engines built from settings."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from offramp.bundle.manifest import Manifest
from serving.engine.assembly import build_engine
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
