import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.report.classes import HELD_OUT, MATRIX, ClassResults, class_results


def results(seed: int, classes: int, images: int, exits: int = 2) -> ClassResults:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, images)
    predicted = np.where(rng.random((exits, images)) < 0.5, targets, rng.integers(0, classes))
    labels = tuple(f"class {k}" for k in range(classes))
    return class_results(labels, predicted, targets, {"test": targets[:3], "train": targets})


drawn = st.builds(results, st.integers(0, 10_000), st.integers(2, 130), st.integers(1, 300))


@given(drawn)
def test_confusion_counts_sum_to_the_held_out_images_of_each_class(found: ClassResults) -> None:
    held_out = found.counts[HELD_OUT]
    of_class = np.bincount(found.pairs[:, 0], found.pairs[:, 2], minlength=len(held_out))
    np.testing.assert_array_equal(of_class, held_out)
    assert found.pairs[:, 2].min() > 0
    if matrix := found.matrix():
        assert [sum(images for images, _ in row.cells) for row in matrix] == held_out.tolist()
        diagonal = [row.cells[k][0] for k, row in enumerate(matrix)]
        assert diagonal == found.right[-1].tolist()
    assert bool(matrix) == (len(found.labels) <= MATRIX)


@given(drawn)
def test_shades_are_those_of_the_share_and_only_cells_with_images_have_one(
    found: ClassResults,
) -> None:
    for row in found.matrix():
        total = sum(images for images, _ in row.cells)
        for images, shade in row.cells:
            assert (shade > 0) == (images > 0)
            assert 0 <= shade <= 9
            assert (shade == 9) == (images > 0 and images / total > 8 / 9)


@given(drawn)
def test_accuracies_weighted_by_images_are_the_accuracy_of_the_exit(found: ClassResults) -> None:
    at = list(found.counts).index(HELD_OUT)
    rows = found.rows()
    assert [row.label for row in rows] == list(found.labels)
    for k in range(2):
        right = sum((row.accuracies[k] or 0) * row.images[at] for row in rows)
        assert round(right) == found.right[k].sum()
    for row in rows:
        assert (row.interval is None) == (row.images[at] == 0) == (row.accuracies[0] is None)


@given(drawn, st.integers(1, 20))
def test_confusions_are_wrong_predictions_in_order_of_size(found: ClassResults, most: int) -> None:
    confusions = found.confusions(most)
    sizes = [each.images for each in confusions]
    assert sizes == sorted(sizes, reverse=True)
    assert len(confusions) <= most
    assert all(each.true != each.predicted and 0 < each.share <= 1 for each in confusions)
    wrong = int(found.counts[HELD_OUT].sum() - found.right[-1].sum())
    assert sum(sizes) <= wrong
    assert sum(each.images for each in found.confusions(10**6)) == wrong


def test_many_classes_are_limited_to_those_with_the_lowest_accuracy() -> None:
    targets = np.array([0, 0, 1, 1, 3])
    predicted = np.array([[0, 0, 0, 1, 0]])
    found = class_results(("a", "b", "c", "d"), predicted, targets, {})
    assert [row.label for row in found.rows(3)] == ["d", "b", "a"]
    assert [row.label for row in found.rows(4)] == ["a", "b", "c", "d"]
    assert found.rows()[2].accuracies == (None,), "no held-out image"
    assert [(c.true, c.predicted, c.share) for c in found.confusions(9)] == [
        ("b", "a", 0.5),
        ("d", "a", 1.0),
    ]


def test_the_sets_are_in_the_order_of_their_use() -> None:
    found = results(0, 5, 40)
    assert {name: int(count.sum()) for name, count in found.counts.items()} == {
        "train": 40,
        "held-out": 40,
        "test": 3,
    }
    assert list(found.counts) == ["train", "held-out", "test"]


def test_twenty_thousand_classes_need_no_matrix() -> None:
    found = results(0, 20_000, 500)
    assert found.matrix() == []
    assert len(found.rows(50)) == 50
