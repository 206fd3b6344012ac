from __future__ import annotations

import json
from pathlib import Path

import pytest

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest, read_manifest


def test_the_record_is_read_and_written_again(reject_bundle: Path) -> None:
    manifest = read_manifest(reject_bundle)
    assert manifest.reject is not None
    assert len(manifest.reject.thresholds) == manifest.exits
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_a_manifest_without_the_record_is_written_without_it(manifest: Manifest) -> None:
    assert manifest.reject is None
    assert "reject" not in manifest.model_dump_json()


def test_a_bundle_must_have_a_threshold_for_each_exit(damaged: Path, reject_bundle: Path) -> None:
    path = damaged / "manifest.json"
    record = json.loads((reject_bundle / "manifest.json").read_text())["reject"]
    record["exits"].pop()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"reject": record}))
    with pytest.raises(BundleError, match="reject: needs one threshold for each exit"):
        read_manifest(damaged)
