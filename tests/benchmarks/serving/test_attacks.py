"""Attacks run against a real server, and their cost is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving.attacks.__main__ import measure, row
from benchmarks.serving.attacks.registry import ATTACKS
from tests.serving.small_bundle import write_bundle

MB = 1_000_000


@pytest.mark.parametrize("name", ["headers", "query-names"])
def test_the_cost_of_an_attack_is_measured(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.serving.attacks.__main__.SETTLE", 0.1)
    cost = measure(ATTACKS[name], write_bundle(tmp_path / "testnet"), Path())
    assert 0 < cost.sent < 32 * MB
    assert 0 <= cost.cpu < 5
    assert 0 < cost.before <= cost.peak < cost.before + 64 * MB
    assert row(ATTACKS[name], cost).startswith(f"| {ATTACKS[name].text} |")
