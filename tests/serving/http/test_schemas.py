from __future__ import annotations

import json
from pathlib import Path

from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.budgets.milliseconds import Milliseconds
from serving.engine.latency import Latency
from serving.http.schemas import ModelDescription, describe


def described_as_json(manifest: Manifest) -> str:
    milliseconds = Milliseconds(manifest, Latency([1], [[1e-3]] * manifest.exits))
    return describe(manifest, milliseconds).model_dump_json()


def test_the_description_is_the_public_part_of_the_manifest(manifest: Manifest) -> None:
    described = ModelDescription.model_validate_json(described_as_json(manifest))
    assert described.budgets == manifest.budgets
    assert described.curve == manifest.curve
    assert [exit_.flops for exit_ in described.exits] == [100_000, 250_000, 430_000, 700_000]
    assert described.default_budget == "medium"
    assert "provenance" not in described.model_dump()


def test_the_description_has_the_promises(promise_bundle: Path, manifest: Manifest) -> None:
    promising = read_manifest(promise_bundle)
    described = ModelDescription.model_validate_json(described_as_json(promising))
    assert described.promises == promising.promises
    assert "promises" not in json.loads(described_as_json(manifest))
