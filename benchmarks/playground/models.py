"""The page of models in a browser: what it shows is what the server's index says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from playwright.sync_api import Browser, expect

from benchmarks.playground.browser import DESKTOP, PHONE, Playground, Scheme, opened
from benchmarks.playground.checks import require
from benchmarks.playground.server import Server, serving

PAGE = "pages/models.html"
KEY, ADMIN = "s3cret", "the admin key of a check"
NAME, OTHER = "clothing", "shirts"
PATIENCE = 120.0  # seconds for a load
SHOWN = {  # model, version, and state or "not loaded"
    (NAME, "1", "not loaded"),
    (NAME, "2", "ready"),
    (NAME, "3", "ready"),
    (NAME, "4", "failed"),
    (OTHER, "1", "ready"),
}


@contextmanager
def serving_models(python: str, bundle: Path, folder: Path, prefix: str = "") -> Iterator[Server]:
    """Serve two models: one with a canary, a failed version and one that is not loaded."""
    models, key = folder / "models", folder / "admin-key"
    key.write_text(ADMIN, encoding="ascii")
    for name, version in ((NAME, "2"), (OTHER, "1")):
        shutil.copytree(bundle, models / name / version)
    options = ("--admin-key-file", str(key), "--default-model", NAME)
    with serving(python, models, *options, prefix=prefix, key=KEY, kind="--models") as server:
        for version in ("1", "3", "4"):
            shutil.copytree(bundle, models / NAME / version)
        sorted((models / NAME / "4").glob("*.onnx"))[1].write_bytes(b"damaged")
        _load(server, "3", share=0.05)
        _load(server, "4")
        yield server


def _load(server: Server, version: str, **parameters: float) -> None:
    body = json.dumps({"parameters": {"version": version, **parameters}}).encode()
    url = f"{server.url}v2/repository/models/{NAME}/load"
    request = Request(url, body, {"Authorization": f"Bearer {ADMIN}"})
    try:
        with urlopen(request, timeout=PATIENCE) as response:
            response.read()
    except HTTPError as error:  # of the damaged version
        error.close()


def shows_the_index(browser: Browser, server: Server, shots: Path) -> str:
    """Ask for a key, compare the rows with the index, run axe, and take screenshots."""
    looks: tuple[tuple[str, Scheme, Mapping[str, Any]], ...] = (
        ("light", "light", DESKTOP),
        ("dark", "dark", DESKTOP),
        ("phone", "light", PHONE),
    )
    for name, scheme, device in looks:
        with opened(browser, server, device, scheme, PAGE) as playground:
            _give_key(playground, "wrong")
            expect(playground.page.locator("#message")).to_contain_text("API key")
            _give_key(playground, KEY)
            expect(playground.page.locator("#summary")).to_have_text(
                "2 models, 3 versions ready, 1 failed", timeout=PATIENCE * 1e3
            )
            require(_rows(playground) == SHOWN, _rows(playground))
            expect(playground.page.locator("table").first).to_contain_text("a canary for 0.05")
            require(playground.overflow() <= 0, f"{name}: wider than the window")
            playground.photograph(shots / f"models-{name}.png")
            require(not playground.violations(), playground.violations())
            outside = [each for each in playground.requests if not each.startswith(server.url)]
            require(not outside, outside)
            refused = [each for each in playground.complaints if "401" not in each]
            require(not refused, refused)
    return "rows of two models in light, dark and on a phone"


def reads_with_the_admin_key(browser: Browser, server: Server) -> str:
    """Use the admin key, which reads the index only, and watch a change without a reload."""
    with opened(browser, server, DESKTOP, "light", PAGE) as playground:
        _give_key(playground, ADMIN)
        rows = playground.page.locator("tbody tr")
        expect(rows).to_have_count(len(SHOWN))
        table = playground.page.locator("table").first
        expect(table).to_contain_text("a canary")
        _load(server, "3")
        expect(table).not_to_contain_text("a canary", timeout=PATIENCE * 1e3)
    return "the index, and a change of it"


def _give_key(playground: Playground, key: str) -> None:
    expect(playground.page.locator("#key-form")).to_be_visible(timeout=PATIENCE * 1e3)
    playground.page.locator("#key").fill(key)
    playground.page.keyboard.press("Enter")


def _rows(playground: Playground) -> set[tuple[str, str, str]]:
    """Return name, version and state of each row. A version that is not loaded says so."""
    found = set()
    for card in playground.page.locator("section.card").all():
        name = card.locator("h2").inner_text()
        for row in card.locator("tbody tr").all():
            state, text = row.locator("td").all_inner_texts()
            shown = text if text == "not loaded" else state
            found.add((name, row.locator("th").inner_text(), shown))
    return found
