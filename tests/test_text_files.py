"""Text files are UTF-8 in every locale, because labels can be in any language."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OTHER_OPENS = ("Classifier", "Image", "os")  # whose `open` is of no text file


def without_encoding(source: str) -> Iterator[int]:
    """Yield lines that read or write a text file in the locale's encoding."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or any(
            keyword.arg == "encoding" for keyword in call.keywords
        ):
            continue
        match call.func:
            case ast.Attribute(attr="read_text" | "write_text"):
                yield call.lineno
            case ast.Name("open") if not _is_binary(call.args[1:]):
                yield call.lineno
            case ast.Attribute(attr="open", value=owner) if ast.unparse(owner) not in OTHER_OPENS:
                if not _is_binary(call.args):
                    yield call.lineno


def _is_binary(arguments: Sequence[ast.expr]) -> bool:
    mode = arguments[0] if arguments else ast.Constant("r")
    return isinstance(mode, ast.Constant) and "b" in str(mode.value)


@pytest.mark.parametrize("package", ["offramp", "training", "exporter", "benchmarks", "deploy"])
def test_text_files_are_opened_with_an_encoding(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    lines = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in files
        for line in without_encoding(file.read_text(encoding="utf-8"))
    ]
    assert lines == []


def test_missing_encodings_are_found() -> None:
    source = "path.open()\npath.open('rb')\npath.write_text(text)\nopen(path)\nImage.open(path)\n"
    assert sorted(without_encoding(source)) == [1, 3, 4]
