"""The attacks on the Open Inference Protocol reach its readers, which refuse them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.serving.attacks.bodies import INFERENCE
from benchmarks.serving.attacks.target import Target, model_of
from tests.serving.servers import serving
from tests.serving.small_bundle import write_bundle

SIZE = 20_000  # bytes, above every bound of items
REFUSED = (400, 415, "INVALID_ARGUMENT")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    bundle = write_bundle(tmp_path_factory.mktemp("bundles") / "testnet")
    with serving(bundle, grpc_port=0) as running:
        yield Target(running.port, 0, model_of(running.port), running.grpc_port)


@pytest.mark.parametrize("name", INFERENCE)
def test_a_hostile_request_is_refused(target: Target, name: str) -> None:
    attack = INFERENCE[name]
    assert target.takes(attack)
    assert target.send(attack, target.body(attack, SIZE)) in REFUSED
