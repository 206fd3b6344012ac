"""The labels of a cascade, and the order of each network's outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from exporter.errors import ExportError
from offramp.data.records import listed, other_spelling

Labels = tuple[str, ...]


def read_classes(path: Path) -> Labels:
    """Read labels from a file, one on a line, in the order of the networks' outputs.

    Raises:
        ExportError: The file has fewer than two labels, or one twice.
        OSError: It cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ExportError(f"--classes: {path} is not a text in UTF-8") from error
    labels = tuple(line.strip() for line in lines if line.strip())
    if len(labels) < 2:
        raise ExportError(
            f"--classes: {path} has {len(labels)} labels; one on a line, at least two"
        )
    if twice := _twice(labels):
        raise ExportError(f"--classes: {path} has the label {twice!r} twice")
    return labels


def distinct(name: str, own: Labels | None, classes: Labels | None) -> Labels | None:
    """Return the labels that a network states, or `None` if `--classes` replaces them.

    Labels of which one is stated twice, as ImageNet's crane often is, say no order.

    Args:
        name: Name of the network, for errors.
        own: Labels that it states, if any.
        classes: Labels of `--classes`.

    Raises:
        ExportError: One is stated twice, and there is no `--classes`.
    """
    if own is None or not (twice := _twice(own)):
        return own
    if classes is None:
        raise ExportError(
            f"{name}: states the label {twice!r} twice; give --classes, a file with distinct names "
            "in the order of its outputs"
        )
    return None


def _twice(labels: Labels) -> str | None:
    """Return the first label that is there twice, if any."""
    return next((label for label, count in Counter(labels).items() if count > 1), None)


def common_labels(stated: Sequence[Labels | None], classes: Labels | None, found: Labels) -> Labels:
    """Return the labels of a cascade, in its order.

    That is the order of `--classes`, or else that of the last network that states its labels, or
    else that of the images' classes.

    Args:
        stated: Labels that each network states.
        classes: Labels of `--classes`.
        found: Classes of the images.

    Raises:
        ExportError: The images have a class that is no label.
    """
    known = [labels for labels in stated if labels is not None]
    labels = classes or (known[-1] if known else found)
    if foreign := [label for label in found if label not in labels]:
        raise ExportError(
            f"--data: the label {foreign[0]!r} is none of the networks' labels: {listed(labels)}"
            f"{other_spelling(foreign[0], labels)}"
        )
    return labels


def order_of(name: str, own: Labels | None, labels: Labels) -> list[int]:
    """Return a network's output for each label.

    Args:
        name: Name of the network, for errors.
        own: Labels that it states. `None`: its order is that of the cascade.
        labels: Labels of the cascade.

    Raises:
        ExportError: It has other labels.
    """
    if own is None:
        return list(range(len(labels)))
    place = {label: number for number, label in enumerate(own)}
    if missing := [label for label in labels if label not in place]:
        raise ExportError(
            f"{name}: has no label {missing[0]!r}; its labels are {listed(own)}"
            f"{other_spelling(missing[0], own)}"
        )
    if more := [label for label in own if label not in labels]:
        raise ExportError(
            f"{name}: has the label {more[0]!r}, which the others do not have: {listed(labels)}"
        )
    return [place[label] for label in labels]
