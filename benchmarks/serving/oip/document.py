"""Run the snippets of docs/clients.md as they stand. Runs in the clients' environment."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.serving.oip.checks import check_true, read_task

DOCUMENT = Path("docs/clients.md")
# Of the document's server: bundle of photos, default ports, no key.
SHOWN = {"localhost:8000": "http", "localhost:8001": "grpc"}


def main() -> int:
    """Run each snippet with the addresses and the key of this server."""
    task, found = read_task(), []
    text = DOCUMENT.read_text(encoding="utf-8")
    for number, snippet in enumerate(
        re.findall(r"^```py\n(.*?)^```$", text, re.MULTILINE | re.DOTALL), 1
    ):
        code = snippet.replace("clothing-lite0", task.model)
        code = code.replace("Bearer KEY", f"Bearer {task.key}")
        for shown, door in SHOWN.items():
            code = code.replace(shown, getattr(task, door))
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        name = f"docs/clients.md snippet {number}"
        found.append(check_true(name, done.returncode == 0 and done.stdout))
        if not found[-1]:
            print(done.stderr)
    return 0 if found and all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
