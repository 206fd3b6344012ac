"""Text is UTF-8 on every machine, whatever its locale: labels may be in any language."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def without_encoding(source: str) -> Iterator[int]:
    """Lines that read or write a file as text in the locale's encoding."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or any(word.arg == "encoding" for word in call.keywords):
            continue
        match call.func:
            case ast.Name("open") | ast.Attribute(attr="read_text" | "write_text"):
                yield call.lineno
            case ast.Attribute(attr="open", value=owner) if ast.unparse(owner) != "Image":
                mode = call.args[0] if call.args else ast.Constant("r")
                if not isinstance(mode, ast.Constant) or "b" not in mode.value:
                    yield call.lineno


@pytest.mark.parametrize("package", ["training", "exporter", "benchmarks"])
def test_files_of_text_have_an_encoding(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in files
        for line in without_encoding(file.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_one_without_would_be_found() -> None:
    source = "path.open()\npath.open('rb')\npath.write_text(text)\nopen(path)\nImage.open(path)\n"
    assert sorted(without_encoding(source)) == [1, 3, 4]
