"""Files of the pages: types, validators, and what the browser must never be asked to do."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from serving.http.pages.static import FOLDERS, POLICY, TYPES, StaticFile, load_files

ROOT = Path(__file__).parents[4]
FILES = load_files()
TEXTS = {name: file.content.decode() for name, file in FILES.items()}
PAGE = StaticFile(b"<p>", TYPES[".html"])
# Markup from text, inline code, and requests to other hosts. The namespace of SVG is a name.
FORBIDDEN = re.compile(
    r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=\"|innerHTML|outerHTML|insertAdjacentHTML"
    r"|document\.write|\beval\(|new Function|localStorage|sessionStorage|document\.cookie"
    r"|//(?!www\.w3\.org/2000/svg)[\w-]+\.[\w.-]+/"
)


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_file_has_inline_code_or_names_another_host(name: str) -> None:
    assert FORBIDDEN.search(TEXTS[name]) is None


def test_the_forbidden_forms_are_found() -> None:
    for text in ("<script>x", '<p style="a">', '<p onclick="x">', "https://cdn.example.org/x.js"):
        assert FORBIDDEN.search(text)
    assert not FORBIDDEN.search('<script type="module" src="pages/main.js">')


def named_by(name: str) -> set[str]:
    """Return the files of this server that a page or a script names."""
    pattern = (
        r'from "\./([^"]+)"' if name.endswith(".js") else r'(?:href|src)="(?:pages/)?([\w]+\.\w+)"'
    )
    return set(re.findall(pattern, TEXTS[name]))


def scripts_of(page: str) -> set[str]:
    """Return all scripts that a page runs."""
    found: set[str] = set()
    new = {name for name in named_by(page) if name.endswith(".js")}
    while new:
        found |= new
        new = {other for name in new for other in named_by(name)} - found
    return found


def test_every_file_that_is_named_exists() -> None:
    assert {"style.css", "main.js", "icon.svg", "models.html"} <= named_by("index.html")
    assert {"style.css", "models.js", "icon.svg"} <= named_by("models.html")
    named = {other for name in TEXTS for other in named_by(name)}
    assert named == FILES.keys() - {"index.html"}


@pytest.mark.parametrize("page", ["index.html", "models.html"])
def test_every_id_that_a_script_names_is_in_its_page(page: str) -> None:
    ids = set(re.findall(r'\sid="([^"]+)"', TEXTS[page]))
    assert len(scripts_of(page)) > 2
    for name in scripts_of(page):
        assert set(re.findall(r'byId\("([^"]+)"\)', TEXTS[name])) <= ids, name


def test_the_package_has_every_file() -> None:
    """Find the files as setuptools does: by the patterns in `pyproject.toml`."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    patterns = tomllib.loads(text)["tool"]["setuptools"]["package-data"]["serving"]
    found = [path for each in patterns for path in (ROOT / "serving").glob(each)]
    assert {path.name for path in found if path.parent.name in FOLDERS} == FILES.keys()


def test_the_policy_allows_own_files_only() -> None:
    directives = dict(each.split(" ", 1) for each in POLICY.split("; "))
    assert directives.pop("default-src") == "'none'"
    assert set(directives.values()) == {"'self'", "'none'", "'script'"}


@pytest.mark.parametrize(
    ("known", "status"),
    [
        ("", 200),
        ('"other"', 200),
        (PAGE.etag, 304),
        ("*", 304),
        (f'"other", W/{PAGE.etag}', 304),
        (", ".join(['"other"'] * 64 + [PAGE.etag]), 200),
    ],
)
def test_a_known_file_is_not_sent_again(known: str, status: int) -> None:
    response = PAGE.response(known)
    assert response.status_code == status
    assert response.body == (b"<p>" if status == 200 else b"")
    assert response.headers["etag"] == PAGE.etag
    assert response.headers["content-security-policy"] == POLICY
