"""The checks of the playground. Each returns what it found, or raises."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect

from benchmarks.playground.browser import DESKTOP, PHONE, Playground, Scheme, opened
from benchmarks.playground.pictures import Picture
from benchmarks.playground.server import Server

URL = re.compile(r"'(http[^']+)'")


class CheckError(Exception):
    """The page does not do what it has to."""


def require(condition: object, text: object) -> None:
    """Raise an error with this text unless the condition holds."""
    if not condition:
        raise CheckError(str(text))


def shows_what_the_server_answers(
    playground: Playground, pictures: Sequence[Picture], pairs: int
) -> str:
    """Compare exits of the page with those of the server, for pairs of a picture and a budget.

    The page computes the exit. The server is asked with the command that the page shows. Label,
    exit and flops of the downloaded table are compared too.
    """
    page, compared, exits = playground.page, 0, set()
    points = int(page.locator("#point").get_attribute("max") or "0") + 1
    for point in range(points):
        playground.move_to(point)
        url = URL.search(page.locator("#command").inner_text())
        require(url, "the page shows no command")
        assert url is not None
        rows = _table(playground)
        for number, picture in enumerate(pictures):
            page.locator("#thumbnails button").nth(number).click()
            shown = page.locator(".stage[data-state=taken]").get_attribute("data-exit")
            answer = playground.server.classify(url[1], picture.content)
            row = rows[picture.name]
            found = (shown, row["exit"], row["label"], row["flops"])
            given = (
                str(answer["exit"]),
                str(answer["exit"]),
                answer["label"],
                str(answer["flops"]),
            )
            require(found == given, f"{picture.name}, {url[1]}: {found} shown, {given} answered")
            compared += 1
            exits.add(shown)
    require(compared >= pairs, f"only {compared} pairs")
    require(len(exits) > 1, "all pictures leave at the same exit: nothing is compared")
    return f"{compared} pairs of {len(pictures)} pictures and {points} points, all equal"


def _table(playground: Playground) -> dict[str, dict[str, str]]:
    with playground.page.expect_download() as download:
        playground.page.locator("#download").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    return {row["picture"]: row for row in csv.DictReader(text.splitlines())}


def lights_up_by_a_stream(playground: Playground, picture: Picture) -> str:
    """Check that pictures are asked as a stream, whose exits light up one by one."""
    page = playground.page
    with page.expect_response(lambda response: "classify" in response.url) as got:
        playground.give([picture], "paste")
    kind: str = got.value.headers["content-type"]
    require(kind == "text/event-stream", kind)
    expect(page.locator(".stage[data-state=taken]")).to_have_count(1)
    return kind


def asks_the_server(playground: Playground, deadline: str) -> str:
    """Ask for low, medium and full, with a deadline, and return the times that the page shows."""
    page = playground.page
    page.locator("#deadline").fill(deadline)
    page.locator("#ask").click()
    times = page.locator("#asked .time")
    expect(times).to_have_count(3)
    return ", ".join(times.all_inner_texts())


def works_by_keyboard(browser: Browser, server: Server, picture: Picture, folder: Path) -> str:
    """Use the page without a pointer: choose a file, move the slider, press every button."""
    path = folder / picture.name
    path.write_bytes(picture.content)
    with opened(browser, server, DESKTOP) as playground:
        page = playground.page
        expect(page.locator("#names button").first).to_be_visible()
        tab_to(playground, "files")
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files([path, path])
        playground.expect_answers(2)
        tab_to(playground, "point")
        page.keyboard.press("Home")
        first = page.locator("#command").inner_text()
        page.keyboard.press("ArrowRight")
        require(page.locator("#command").inner_text() != first, "the slider does not move")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        expect(page.locator("#names button").first).to_have_attribute("aria-pressed", "true")
        tab_to(playground, "ask")
        page.keyboard.press("Enter")
        expect(page.locator("#asked .time")).to_have_count(3)
        tab_to(playground, "download")
        with page.expect_download():
            page.keyboard.press("Enter")
        require(not playground.complaints, playground.complaints)
    return "file, slider, names, ask, download"


def tab_to(playground: Playground, target: str, most: int = 40) -> None:
    """Press Tab until the element with this id has the focus."""
    for _ in range(most):
        playground.page.keyboard.press("Tab")
        if playground.page.evaluate("document.activeElement.id") == target:
            return
    raise CheckError(f"Tab does not reach {target}")


def keeps_to_itself(playground: Playground) -> str:
    """Check that the page asked its own server only, printed no error, and keeps no secret."""
    page, url = playground.page, playground.server.url
    outside = [each for each in playground.requests if not each.startswith((url, "blob:"))]
    require(not outside, outside)
    require(not playground.complaints, playground.complaints)
    kept = page.evaluate("[localStorage.length, sessionStorage.length, document.cookie.length]")
    require(kept == [0, 0, 0], kept)
    refused = page.evaluate(
        "() => { try { document.body.append(Object.assign(document.createElement('script'),"
        " { textContent: 'window.inline = 1' })); } catch { } return window.inline !== 1; }"
    )
    require(refused, "an inline script ran")
    return f"{len(playground.requests)} requests, all to its server; inline scripts are refused"


def is_accessible(
    browser: Browser, server: Server, pictures: Sequence[Picture], shots: Path
) -> dict[str, Any]:
    """Run axe on the page in light, dark and on a phone, and on the reference. Take screenshots."""
    found = {}
    looks: tuple[tuple[str, Scheme, Mapping[str, Any]], ...] = (
        ("light", "light", DESKTOP),
        ("dark", "dark", DESKTOP),
        ("phone", "light", PHONE),
    )
    for name, scheme, device in looks:
        with opened(browser, server, device, scheme) as playground:
            playground.give(pictures)
            playground.expect_answers(len(pictures))
            playground.page.locator("#thumbnails button").nth(3).click()
            playground.page.get_by_role("button", name="high").click()
            asks_the_server(playground, "")
            playground.page.evaluate("document.activeElement.blur()")
            require(playground.overflow() <= 0, f"{name}: wider than the window")
            playground.photograph(shots / f"playground-{name}.png")
            found[name] = playground.violations()
            playground.page.goto(f"{server.url}docs")
            require(playground.overflow() <= 0, f"{name}: the reference is wider than the window")
            found[f"{name}, /docs"] = playground.violations()
    require(not any(found.values()), found)
    return found


def works_with_a_key(playground: Playground, picture: Picture) -> str:
    """Use a server that needs a key, below a prefix. The key is gone with the page.

    A picture that is dropped before the key is asked about after it.
    """
    page = playground.page
    expect(page.locator("#key-form")).to_be_visible()
    playground.give([picture])
    page.locator("#key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_contain_text("API key")
    page.locator("#key").fill(playground.server.key)
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_be_hidden()
    playground.expect_answers(1)
    asks_the_server(playground, "5000")
    page.get_by_role("link", name="API reference").click()
    expect(page.locator("#classify")).to_be_visible()
    page.get_by_role("link", name="Playground").click()
    expect(page.locator("#key")).to_have_value("")
    expect(page.locator("#message")).to_contain_text("API key")
    refused = [each for each in playground.complaints if "401" not in each]
    require(not refused, refused)
    return "asked for, accepted, forgotten"
