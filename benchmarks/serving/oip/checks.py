"""The checks that all clients share. Runs in the clients' environment: NumPy, nothing of ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 8
NAMES = ("label", "index", "probability", "confidence", "exit", "flops", "probabilities")
Outputs = dict[str, NDArray[Any]]
Infer = Callable[[Any], Outputs]  # of image files, or of pixels uint8 [n, height, width, 3]


@dataclass(frozen=True, slots=True)
class Task:
    """Images, their native answers, and the server.

    Attributes:
        model: Name of the model.
        key: API key of the server.
        files: Image files.
        pixels: The same images decoded, uint8 [N, height, width, 3].
        answers: Answers of the native API.
        http: Address for HTTP.
        grpc: Address for gRPC.
    """

    model: str
    key: str
    files: Sequence[bytes]
    pixels: NDArray[np.uint8]
    answers: Sequence[dict[str, Any]]
    http: str
    grpc: str

    def batches(self, *, pixels: bool) -> Iterator[tuple[Any, Sequence[dict[str, Any]]]]:
        """Yield files or pixels with their native answers, some at a time."""
        for start in range(0, len(self.files), BATCH):
            part = slice(start, start + BATCH)
            yield self.pixels[part] if pixels else self.files[part], self.answers[part]


def read_task() -> Task:
    """Read the task from the folder and the addresses of the command line."""
    folder, http, grpc = Path(sys.argv[1]), *sys.argv[2:4]
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    files = [path.read_bytes() for path in sorted((folder / "images").iterdir())]
    pixels, answers = np.load(folder / "pixels.npy"), expected["answers"]
    return Task(expected["model"], expected["key"], files, pixels, answers, http, grpc)


def texts(values: NDArray[Any]) -> list[str]:
    """Return the elements of a tensor BYTES as texts."""
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values.reshape(-1).tolist()]


def check_equal(outputs: Outputs, answers: Sequence[dict[str, Any]]) -> None:
    """Compare outputs with native answers, a row for each image.

    Raises:
        AssertionError: They differ.
    """
    assert texts(outputs["label"]) == [answer["label"] for answer in answers]
    for name in ("index", "exit", "flops"):
        assert outputs[name].tolist() == [answer[name] for answer in answers], name
    for name in ("probability", "confidence"):
        expected = [answer[name] for answer in answers]
        np.testing.assert_allclose(outputs[name], expected, atol=2e-6, err_msg=name)


def check_all(name: str, task: Task, infer: Infer, *, pixels: bool = False) -> bool:
    """Send all images, compare the answers, and print the result."""
    try:
        for images, answers in task.batches(pixels=pixels):
            check_equal(infer(images), answers)
    except Exception as error:  # noqa: BLE001 (becomes a line of the report)
        print(f"{name:36} FAILED  {type(error).__name__}: {str(error)[:300]}")
        return False
    print(f"{name:36} {len(task.answers)} answers equal those of the native API")
    return True


def check_error(name: str, act: Callable[[], object], says: str) -> bool:
    """Check that a call fails with a text, and print the text as the client shows it."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 (becomes a line of the report)
        shown = str(error).replace("\n", " ")
        if says in shown:
            start = max(0, shown.index(says) - 60)
            print(f"{name:36} {shown[start : start + 150]}")
            return True
        print(f"{name:36} FAILED  {type(error).__name__}: {shown[:300]}")
        return False
    print(f"{name:36} FAILED  no error")
    return False


def check_true(name: str, value: object) -> bool:
    """Print a check that must be true."""
    print(f"{name:36} {'holds' if value else 'FAILED'}")
    return bool(value)
