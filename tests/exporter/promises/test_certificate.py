from __future__ import annotations

import numpy as np
import pytest

from exporter.promises.certificate import Certified, Outputs, certify
from exporter.promises.wanted import Wanted, divide, possible
from offramp.bundle.binomial import images_needed
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.promises import Level, parse_level
from tests.serving.small_bundle import write_bundle
from training.evaluation.evaluate import exits_taken

LEVELS = tuple(map(parse_level, ("99%", "98%", "95%")))
WANTED = Wanted(LEVELS)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_bundle(tmp_path_factory.mktemp("bundles") / "testnet"))


def drawn(images: int, seed: int) -> Outputs:
    """Return outputs of four exits for two classes, each right as often as its confidence says."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, images)
    confidence = rng.beta(6, 0.8, (4, images)).astype(np.float32)
    wrong = rng.random((4, images)) >= confidence
    return Outputs(confidence, np.where(wrong, 1 - targets, targets), targets)


def certified(manifest: Manifest, outputs: Outputs, wanted: Wanted = WANTED) -> Certified:
    return certify(manifest, outputs, wanted, "drawn")


def losses_at(outputs: Outputs, thresholds: tuple[float, ...], kind: str) -> np.ndarray:
    """Count image by image, as the definition of a loss says it."""
    taken = exits_taken(outputs.confidence, np.array(thresholds))
    lost = []
    for image, exit_ in enumerate(taken):
        given, full = outputs.classes[exit_, image], outputs.classes[-1, image]
        assert outputs.targets is not None
        target = outputs.targets[image]
        harm = full == target and given != target
        lost.append(given != full if kind == "agreement" else harm)
    return np.array(lost)


def test_promises_have_the_figures_of_the_images_that_were_not_tuned_on(
    manifest: Manifest,
) -> None:
    from scipy.stats import binom  # late: takes seconds

    wanted = Wanted((*LEVELS, Level("harm", 0.02)))
    outputs = drawn(5000, 0)
    promises = certified(manifest, outputs, wanted).promises
    assert promises is not None
    assert (promises.tuned, promises.certified, promises.at_once) == (1000, 4000, 4)
    images = divide(5000, 0).certified
    for promise in promises.offered:
        lost = losses_at(outputs, promise.thresholds, promise.kind)[images]
        assert promise.losses == lost.sum()
        assert binom.cdf(promise.losses, 4000, promise.epsilon) <= 0.05 / 4
        taken = exits_taken(outputs.confidence, np.array(promise.thresholds))[images]
        shares = np.bincount(taken, minlength=4) / 4000
        assert [share.value for share in promise.exit_shares] == pytest.approx(shares.tolist())
        asked = [threshold <= 1 for threshold in promise.thresholds]
        flops = sum(s * manifest.flops_of(k, asked) for k, s in enumerate(shares, 1))
        assert promise.mean_flops.value == pytest.approx(flops)


def test_the_cheapest_point_of_the_path_is_promised(manifest: Manifest) -> None:
    promises = certified(manifest, drawn(5000, 0)).promises
    assert promises is not None
    flops = [promise.mean_flops.value for promise in promises.offered]
    assert flops == sorted(flops, reverse=True)
    assert flops[-1] < 0.9 * manifest.full_flops


def test_no_promise_costs_more_than_full_depth(manifest: Manifest) -> None:
    for images in (200, 400, 820):
        promises = certified(manifest, drawn(images, 5)).promises
        for promise in promises.offered if promises else ():
            assert promise.mean_flops.value <= manifest.full_flops


def test_a_promise_at_each_exit_has_few_losses_at_each(manifest: Manifest) -> None:
    from scipy.stats import binom  # late: takes seconds

    level, outputs = Level("exit", 0.2), drawn(5000, 3)
    promises = certified(manifest, outputs, Wanted((level,))).promises
    assert promises is not None
    (promise,) = promises.offered
    images = divide(5000, 0).certified
    taken = exits_taken(outputs.confidence, np.array(promise.thresholds))[images]
    lost = losses_at(outputs, promise.thresholds, "agreement")[images]
    assert promise.by_exit is not None
    for k, found in enumerate(promise.by_exit):
        left = taken == k
        assert (found.images, found.losses) == (left.sum(), lost[left].sum())
        assert found.images == 0 or binom.cdf(found.losses, found.images, 0.2) <= 0.05
    assert max(found.images for found in promise.by_exit) > 100
    new = manifest.with_promises(promises)
    assert Manifest.model_validate_json(new.model_dump_json()) == new


def test_a_promise_of_accuracy_counts_answers_that_are_better_than_full_depth(
    manifest: Manifest,
) -> None:
    accuracy, outputs = Level("accuracy", 0.03), drawn(5000, 3)
    found = certified(manifest, outputs, Wanted((accuracy, Level("harm", 0.03))))
    assert found.promises is not None
    promise, harm = found.promises.offered
    images = divide(5000, 0).certified
    taken = exits_taken(outputs.confidence, np.array(promise.thresholds))[images]
    assert outputs.targets is not None
    right = (outputs.classes == outputs.targets)[:, images]
    given, full = right[taken, np.arange(4000)], right[-1]
    assert (promise.losses, promise.gains) == ((full & ~given).sum(), (given & ~full).sum())
    assert harm.gains is None
    assert promise.mean_flops.value < harm.mean_flops.value
    assert f"{promise.losses} losses and {promise.gains} gains in 4,000 images" in found.lines[0]
    new = manifest.with_promises(found.promises)
    assert Manifest.model_validate_json(new.model_dump_json()) == new


def test_full_depth_alone_is_no_promise_at_each_exit(manifest: Manifest) -> None:
    outputs = drawn(3000, 4)
    outputs.classes[:-1] = 1 - outputs.classes[-1]  # no exit ever agrees
    found = certified(manifest, outputs, Wanted((Level("exit", 0.05),)))
    assert found.promises is None
    assert "3,000 images: early answers differ too often, or too few" in found.lines[0]


def test_the_promise_of_99_percent_is_the_safe_budget(manifest: Manifest) -> None:
    promises = certified(manifest, drawn(5000, 0)).promises
    assert promises is not None
    assert [promise.name for promise in promises.offered] == ["safe", None, None]


def test_a_manifest_with_the_promises_is_valid(manifest: Manifest) -> None:
    new = manifest.with_promises(certified(manifest, drawn(5000, 0)).promises)
    assert Manifest.model_validate_json(new.model_dump_json()) == new


def test_labels_are_not_needed_for_agreement(manifest: Manifest) -> None:
    outputs = drawn(3000, 1)
    unlabelled = Outputs(outputs.confidence, outputs.classes)
    assert certified(manifest, unlabelled) == certified(manifest, outputs)


def test_what_too_few_images_cannot_certify_is_absent_with_the_number_it_takes(
    manifest: Manifest,
) -> None:
    found = certified(manifest, drawn(700, 2))
    assert found.promises is not None
    offered = [str(each.level) for each in found.promises.offered]
    assert offered == ["98%", "95%"]
    # 350 images certify, and 408 without a loss would do
    assert images_needed(0.01, 0.05 / 3) == 408
    assert (
        "promise 99%       cannot be certified on 700 images: it takes at least 815"
        in (found.lines[0])
    )


@pytest.mark.parametrize("images", [0, 1, 3, 80])
def test_a_handful_of_images_certifies_nothing(manifest: Manifest, images: int) -> None:
    found = certified(manifest, drawn(images, 0))
    assert found.promises is None
    assert len(found.lines) == 3
    assert not possible(WANTED, images)


def test_certified_promises_break_in_at_most_delta_of_the_draws(manifest: Manifest) -> None:
    everything = drawn(200_000, 7)
    shares: dict[tuple[float, ...], float] = {}
    draws, broken, rng = 60, 0, np.random.default_rng(0)
    for _ in range(draws):
        some = rng.integers(0, 200_000, 1000)
        outputs = Outputs(everything.confidence[:, some], everything.classes[:, some])
        promises = certified(manifest, outputs, Wanted(LEVELS, delta=0.2)).promises
        assert promises is not None
        truth = []
        for promise in promises.offered:
            if promise.thresholds not in shares:
                taken = exits_taken(everything.confidence, np.array(promise.thresholds))
                given = everything.classes[taken, np.arange(200_000)]
                shares[promise.thresholds] = float((given != everything.classes[-1]).mean())
            truth.append(shares[promise.thresholds] > promise.epsilon)
        broken += any(truth)
    assert broken / draws <= 0.2 + 2 * (0.2 * 0.8 / draws) ** 0.5
