from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.evaluation.test_assessment import FLOPS, drawn
from tests.training.samples import (
    finished_progress,
    source_with_test,
    tiny_dataset,
    untrained_checkpoint,
)
from training.data.splits import load_test
from training.errors import DivergedError
from training.evaluation.calibration_error import reliability
from training.evaluation.labelled_logits import agrees, labelled_logits, score
from training.networks.predict import predict


def test_logits_are_computed_in_parts_and_cover_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_with_test(tmp_path)
    network = untrained_checkpoint(finished_progress()).network()
    test = load_test(source, 32, tiny_dataset().labels)
    assert test is not None
    whole = test.decoded()
    monkeypatch.setattr("training.data.images.READ_AT_ONCE", 25)
    assert [len(part) for part in test.parts()] == [25, 25, 10]
    given = labelled_logits(network, test)
    assert torch.equal(given.targets, whole.targets)
    torch.testing.assert_close(given.logits, predict(network, whole.pixels))


def test_a_network_that_diverged_in_its_last_step_is_refused() -> None:
    network = untrained_checkpoint(finished_progress()).network()
    torch.nn.init.constant_(next(network.heads[-1].parameters()), torch.inf)
    with pytest.raises(DivergedError, match=r"^lr: .* not finite; lower it"):
        labelled_logits(network, tiny_dataset().held_out)


def test_confidence_is_the_calibrated_maximum() -> None:
    given = drawn(300, 0)
    scored = score(given, (2.0, 2.0, 2.0), FLOPS)
    expected = torch.softmax(given.logits / 2, dim=-1).amax(-1).numpy()
    np.testing.assert_allclose(scored.confidence, expected, rtol=1e-6)
    assert reliability(scored.confidence[2], scored.right[2]).error < 0.08


def test_full_depth_agrees_with_itself() -> None:
    given = drawn(300, 0)
    same, predicted = agrees(given), given.logits.argmax(-1).numpy()
    assert same[-1].all()
    assert np.array_equal(same[0], predicted[0] == predicted[2])
