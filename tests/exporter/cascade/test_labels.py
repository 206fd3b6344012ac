"""The labels that networks state, and the order of their outputs."""

from __future__ import annotations

import pytest

from exporter.cascade.labels import common_labels, distinct, order_of
from exporter.errors import ExportError

TWICE = ("kite", "crane", "maillot", "crane")


def test_a_label_that_a_network_states_twice_is_refused_with_a_remedy() -> None:
    says = "^net.onnx: states the label 'crane' twice; give --classes, .*distinct"
    with pytest.raises(ExportError, match=says):
        distinct("net.onnx", TWICE, None)


def test_distinct_names_replace_labels_that_are_stated_twice() -> None:
    classes = ("kite", "crane, a bird", "maillot", "crane, a machine")
    own = distinct("net.onnx", TWICE, classes)
    labels = common_labels([own], classes, ("kite", "maillot"))
    assert labels == classes
    assert order_of("net.onnx", own, labels) == [0, 1, 2, 3]


def test_a_label_in_another_unicode_form_is_named_with_the_remedy() -> None:
    composed, decomposed = ("caf\u00e9", "tea"), ("cafe\u0301", "tea")
    says = r"'cafe\\u0301' and 'caf\\xe9' differ only in .* characters that look alike"
    with pytest.raises(ExportError, match=says):
        common_labels([composed], None, decomposed)
    with pytest.raises(ExportError, match=says):
        order_of("net.onnx", composed, decomposed)


def test_labels_that_are_stated_once_keep_their_order() -> None:
    own, classes = ("red", "blue"), ("blue", "red")
    assert distinct("net.onnx", None, classes) is None
    assert distinct("net.onnx", own, None) == own
    assert order_of("net.onnx", distinct("net.onnx", own, classes), classes) == [1, 0]
