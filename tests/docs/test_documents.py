"""The documents are plain English, link to what exists, and have the figures of the bundle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from offramp.bundle.manifest import Manifest, read_manifest
from tests.docs.documents import FENCE, ROOT, current, documents

README = (ROOT / "README.md").read_text(encoding="utf-8")
IDIOMS = re.compile(
    r"\b(who|whose|whoever|nobody|somebody|everybody|of which|those who|none|himself|hence|thus)\b",
    re.IGNORECASE,
)
MOST_SEMICOLONS = 5  # in 100 sentences
MOST_IDIOMS = 1  # in 1,000 words


def named(path: Path) -> str:
    """Return a document's path from the root."""
    return str(path.relative_to(ROOT))


def sentences(path: Path) -> list[str]:
    """Return the sentences of a document, without code, tables and headings."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    text = re.sub(r"^(\||#).*$|<[^>]+>", "", text, flags=re.MULTILINE)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "x", text)
    parts = re.split(r"(?<=[.!?:])\s+|\n\s*\n|\n\s*[-*\d]+[.)]?\s", text)
    return [part for part in parts if len(re.findall(r"[A-Za-z]+", part)) >= 4]


@pytest.mark.parametrize("path", documents(), ids=named)
def test_prose_is_plain(path: Path) -> None:
    found = sentences(path)
    text = " ".join(found)
    assert 100 * text.count(";") <= MOST_SEMICOLONS * max(1, len(found))
    assert 1000 * len(IDIOMS.findall(text)) <= MOST_IDIOMS * len(text.split())


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the heading of each link into the project."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http:", "https:")):
            file, _, heading = target.partition("#")
            yield (path.parent / file if file else path), heading


def headings(path: Path) -> set[str]:
    """Return the anchors of a document's headings."""
    text = path.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", documents(), ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for file, heading in links(path):
        assert file.exists(), file
        assert not heading or heading in headings(file), (file, heading)


@pytest.mark.parametrize("path", current(), ids=named)
def test_files_of_the_project_that_are_named_exist(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for name in re.findall(r"`([A-Za-z_.]+/[A-Za-z0-9_./-]*\.(?:py|md|toml|txt|yml))`", text):
        if "NAME" not in name and "/x/" not in name:
            places = (ROOT, ROOT / "serving", path.parent)
            assert any((place / name).exists() for place in places), name


def test_the_index_has_every_document() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {file.resolve() for file, _ in links(index)}
    assert {path for path in documents() if path != index} == listed


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read_manifest(ROOT / "deploy" / "bundles" / "cifar10-msdnet")


def test_an_exit_costs_what_the_manifest_says(manifest: Manifest) -> None:
    told = re.findall(r"^\| exit (\d) \| ([\d.]+) \| (\d+) % \|", README, re.MULTILINE)
    assert told == [
        (str(k), f"{stage.flops_to_exit / 1e6:.1f}", share(stage.flops_to_exit, manifest))
        for k, stage in enumerate(manifest.stages, 1)
    ]


@pytest.mark.parametrize("bundle", ["clothing-lite0", "cifar10-msdnet"])
def test_a_budget_costs_what_the_manifest_says(bundle: str) -> None:
    manifest = read_manifest(ROOT / "deploy" / "bundles" / bundle)
    section = README[README.index(f"\n`{bundle}` is ") :].partition("\n#")[0]
    told = re.findall(r"^\| (`.*`) \| ([\d.]+) \| (\d+) % \|", section, re.MULTILINE)
    assert [name for names, *_ in told for name in re.findall(r"`(\w+)`", names)] == [
        *manifest.budgets
    ]
    for names, flops, part in told:
        for name in re.findall(r"`(\w+)`", names):
            mean = manifest.budgets[name].mean_flops.value
            assert (flops, part) == (f"{mean / 1e6:.1f}", share(mean, manifest))


def test_the_papers_count_is_named_once(manifest: Manifest) -> None:
    *early, last = (f"{stage.blockwise_flops_to_exit / 1e6:.1f}" for stage in manifest.stages)
    assert README.count(f"{', '.join(early)} and {last} M") == 1
    for figure in early:
        texts = [path.read_text(encoding="utf-8") for path in current()]
        assert sum(len(re.findall(rf"\b{re.escape(figure)}\b", text)) for text in texts) == 1


def share(flops: float, manifest: Manifest) -> str:
    """Return flops as a share of full depth, in percent."""
    return f"{100 * flops / manifest.full_flops:.0f}"
