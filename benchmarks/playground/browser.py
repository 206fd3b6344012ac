"""A page of the playground in Chromium, and everything that it asked for or complained about."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Playwright, expect

from benchmarks.playground.pictures import Picture
from benchmarks.playground.server import Server

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP: Mapping[str, Any] = {"viewport": {"width": 1240, "height": 900}}
PHONE: Mapping[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 1.5,
}
Scheme = Literal["light", "dark"]
TALLEST = 2200  # CSS pixels of a screenshot
COLOURS = 256
PATIENCE = 60_000.0  # milliseconds
# Events of a person: the files come as a drag or as the clipboard, and not by the file input.
GIVE = """async ([kind, files]) => {
  const data = new DataTransfer();
  for (const [name, content] of files) {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    data.items.add(new File([bytes], name, { type: "image/jpeg" }));
  }
  const event = kind === "drop"
    ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
  document.querySelector("#drop").dispatchEvent(event);
}"""


@dataclass(slots=True)
class Playground:
    """An open page.

    Attributes:
        page: The page.
        server: Its server.
        requests: URLs of all requests that the page made.
        complaints: Errors of scripts, and everything the console printed as an error.
    """

    page: Page
    server: Server
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def give(self, pictures: Sequence[Picture], kind: str = "drop") -> None:
        """Drop or paste pictures."""
        files = [(each.name, base64.b64encode(each.content).decode()) for each in pictures]
        self.page.evaluate(GIVE, [kind, files])

    def expect_answers(self, count: int) -> None:
        """Wait until so many pictures are answered."""
        expect(self.page.locator("#progress")).to_have_text(
            f"{count} of {count} answered", timeout=PATIENCE
        )

    def move_to(self, point: int) -> None:
        """Move the slider to a point, as a person does who drags it."""
        self.page.locator("#point").fill(str(point))

    def photograph(self, path: Path) -> None:
        """Write a screenshot of the page, at most `TALLEST`, as a PNG with a palette."""
        image = self.page.screenshot(full_page=True, animations="disabled")
        with Image.open(io.BytesIO(image)) as shot:
            scale = shot.width / self.page.viewport_size["width"]
            cut = shot.crop((0, 0, shot.width, min(shot.height, int(TALLEST * scale))))
        cut.convert("RGB").quantize(COLOURS).save(path, optimize=True)

    def violations(self) -> list[str]:
        """Return the accessibility rules that axe finds broken, each with an element."""
        found = Axe().run(self.page).response["violations"]
        return [f"{each['id']}: {each['nodes'][0]['html'][:120]}" for each in found]

    def overflow(self) -> int:
        """Return the pixels by which the page is wider than its window."""
        width: int = self.page.evaluate(
            "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
        )
        return width


def launch(playwright: Playwright, chromium: str) -> Browser:
    """Start a browser without a window."""
    return playwright.chromium.launch(executable_path=chromium, args=FLAGS)


@contextmanager
def opened(
    browser: Browser,
    server: Server,
    device: Mapping[str, Any],
    scheme: Scheme = "light",
    path: str = "",
) -> Iterator[Playground]:
    """Open the playground of a server, or another page, in a fresh profile.

    Args:
        browser: The browser.
        server: The server.
        device: Options of Playwright for the window.
        scheme: `light` or `dark`.
        path: Path of the page below that of the playground.
    """
    context = browser.new_context(color_scheme=scheme, accept_downloads=True, **device)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    playground = Playground(page, server)
    page.on("request", lambda request: playground.requests.append(request.url))
    page.on("pageerror", lambda error: playground.complaints.append(str(error)))
    page.on("filechooser", lambda _: None)  # from the start: a key can come before `expect_`
    page.on(
        "console",
        lambda message: (
            playground.complaints.append(message.text) if message.type == "error" else None
        ),
    )
    try:
        page.goto(server.url + path)
        yield playground
    finally:
        context.close()
