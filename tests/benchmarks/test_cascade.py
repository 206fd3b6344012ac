from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import cascade


def test_words_with_spaces_stay_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def refuse(words: Sequence[str]) -> int:
        seen.extend(words)
        return 1

    out = tmp_path / "my results"
    words = ["--files", "a b.onnx", "c.onnx", "--data", "my photos", "--out", str(out)]
    monkeypatch.setattr(cascade, "cascade", refuse)
    monkeypatch.setattr("sys.argv", ["cascade", *words, "--", "--classes", "my classes.txt"])
    assert cascade.main() == 1
    given = ["a b.onnx", "c.onnx", "--data", "my photos", "--out", str(out / "bundle")]
    assert seen == [*given, "--classes", "my classes.txt"]
