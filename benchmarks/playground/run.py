"""Run all checks of the playground in Chromium, and print a line for each."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Error, sync_playwright

from benchmarks.playground import checks, models
from benchmarks.playground.browser import DESKTOP, launch, opened
from benchmarks.playground.pictures import read_pictures, varied_pictures
from benchmarks.playground.server import serving

PHOTOS = tuple(Path("docs/photos") / name for name in ("shirt.jpg", "hat.jpg"))
PICTURES, SEED = 9, 5
PAIRS = 100  # of a picture and a budget, at least


def check(name: str, run: Callable[[], object]) -> bool:
    """Run a check, print a line, and return whether it passed."""
    try:
        found = run()
    except (checks.CheckError, AssertionError, Error) as error:  # Error: of Playwright, in time
        print(f"FAILED  {name}: {error}", flush=True)
        return False
    print(f"passed  {name}: {found}", flush=True)
    return True


def run_all(options: argparse.Namespace) -> bool:
    """Run all checks. Return whether all passed."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = launch(playwright, options.chromium)
        passed = [
            *_one_worker(options, browser, Path(folder)),
            *_behind_a_proxy(options, browser),
            *_several_models(options, browser, Path(folder)),
        ]
        browser.close()
    print(f"{sum(passed)} of {len(passed)} checks passed")
    return all(passed)


def _one_worker(options: argparse.Namespace, browser: Browser, folder: Path) -> list[bool]:
    photos = read_pictures(PHOTOS)
    pictures = [*photos, *varied_pictures(PHOTOS, PICTURES - len(photos), SEED)]
    shots = options.screenshots or folder
    passed = []
    with serving(options.python, options.bundle) as server:
        with opened(browser, server, DESKTOP) as page:
            page.give(pictures[:3])
            page.expect_answers(3)
            page.give(pictures[3:])
            page.expect_answers(len(pictures))
            passed += [
                check(
                    "exits equal the server's",
                    lambda: checks.shows_what_the_server_answers(page, pictures, PAIRS),
                ),
                check("stream", lambda: checks.lights_up_by_a_stream(page, pictures[0])),
                check("low, medium, full", lambda: checks.asks_the_server(page, "5000")),
                check("policy", lambda: checks.keeps_to_itself(page)),
            ]
        passed += [
            check(
                "keyboard",
                lambda: checks.works_by_keyboard(browser, server, pictures[0], folder),
            ),
            check(
                "axe, phone width",
                lambda: checks.is_accessible(browser, server, pictures[:5], shots),
            ),
        ]
    return passed


def _behind_a_proxy(options: argparse.Namespace, browser: Browser) -> list[bool]:
    picture = read_pictures(PHOTOS)[0]
    workers = ("--workers", "2")
    with (
        serving(
            options.python, options.bundle, *workers, prefix="/offramp", key="s3cret"
        ) as server,
        opened(browser, server, DESKTOP) as page,
    ):
        return [
            check("key, prefix and two workers", lambda: checks.works_with_a_key(page, picture))
        ]


def _several_models(options: argparse.Namespace, browser: Browser, folder: Path) -> list[bool]:
    shots = options.screenshots or folder
    with models.serving_models(options.python, options.bundle, folder, "/offramp") as server:
        return [
            check("page of models", lambda: models.shows_the_index(browser, server, shots)),
            check("admin key", lambda: models.reads_with_the_admin_key(browser, server)),
        ]
