"""The documents of the project, and the blocks and commands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The changelog is history: its commands were right when they were written.
HISTORY = ROOT / "CHANGELOG.md"
COMMAND_WORDS = ("make", "offramp", "pip", "python", "torchrun")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document.

    Attributes:
        document: Path of the document, from the root.
        line: Line of the fence, from 1.
        language: Word after the fence.
        text: Lines between the fences.
    """

    document: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """A name for a test: document and line."""
        return f"{self.document}:{self.line}"

    def entries(self) -> list[tuple[str, str]]:
        """Return the commands of a console block, each with the output below it."""
        found: list[tuple[str, str]] = []
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, output = re.sub(r"\\\n\s*", "", part).partition("\n")
            found.append((re.split(r"\s{2,}#", command)[0].strip(), output))
        return found


def documents() -> list[Path]:
    """Return every Markdown file of the project, the changelog included."""
    return sorted(
        [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").glob("*.md")]
    )


def current() -> list[Path]:
    """Return every document that describes the project as it is."""
    return [path for path in documents() if path != HISTORY]


def blocks() -> Iterator[Block]:
    """Yield every fenced block of the current documents."""
    for path in current():
        text = path.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield Block(str(path.relative_to(ROOT)), line, match[1], match[2])


def commands() -> list[str]:
    """Return the commands of all console blocks, each once."""
    found = [
        command
        for block in blocks()
        if block.language == "console"
        for command, _ in block.entries()
    ]
    return list(dict.fromkeys(found))


def inline_commands() -> list[str]:
    """Return the commands that stand in the text between backticks, each once."""
    found: list[str] = []
    for path in current():
        text = FENCE.sub("", path.read_text(encoding="utf-8"))
        for span in re.findall(r"`([^`]+)`", text):
            words = span.split()
            if len(words) > 1 and words[0] in COMMAND_WORDS:
                found.append(" ".join(words))
    return list(dict.fromkeys(found))


def paths_in(text: str) -> list[str]:
    """Return the paths of files and folders that stand between backticks."""
    return re.findall(r"`([A-Za-z_.]+/[A-Za-z0-9_./-]*)`", text)
