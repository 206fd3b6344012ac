"""A server for the browser, in its own process, and calls of it without the browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

STARTED = re.compile(r"at (http://[^\s\"]+)")
PATIENCE = 60.0  # seconds for one answer


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready.

    Attributes:
        url: Of the playground, with a slash at the end.
        key: Its API key, or an empty string.
    """

    url: str
    key: str = ""

    def classify(self, url: str, file: bytes) -> dict[str, Any]:
        """Return the answer to a picture, as a client gets it that is no browser."""
        request = Request(url, file, {"content-type": "application/octet-stream"})
        if self.key:
            request.add_header("authorization", f"Bearer {self.key}")
        with urlopen(request, timeout=PATIENCE) as response:
            answer: dict[str, Any] = json.load(response)["answers"][0]
            return answer


@contextmanager
def serving(
    python: str,
    bundle: Path,
    *options: str,
    prefix: str = "",
    key: str = "",
    kind: str = "--bundle",
) -> Iterator[Server]:
    """Run `python -m serving` on a free loopback port until the context ends.

    Args:
        python: Interpreter of an environment with the extra `serving`.
        bundle: The bundle, or a folder of models with `kind="--models"`.
        options: Further options.
        prefix: Value of `--root-path`.
        key: API key, or an empty string.
        kind: The option that takes the folder.

    Raises:
        RuntimeError: The server did not start.
    """
    command = [python, "-m", "serving", kind, str(bundle), "--port", "0", *options]
    if prefix:
        command += ["--root-path", prefix]
    environment = {**os.environ, "OFFRAMP_API_KEY": key}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if started := STARTED.search(line):
                    yield Server(f"{started[1]}{prefix}/", key)
                    break
            else:
                raise RuntimeError(f"the server did not start: {' '.join(command)}")
        finally:
            process.terminate()
