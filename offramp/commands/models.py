"""`offramp models`: list, load and unload the models of a server that serves a folder of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException, InvalidURL
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from pydantic import Field, SecretStr
from pydantic_settings import CliPositionalArg

from offramp.authorization import authorization
from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import KeyOptions, read_options
from offramp.errors import OfframpError, UsageError
from serving.model_settings import Share, read_key

USAGE = """\
usage: offramp models {list,load,unload} ...

List, load and unload the models of a server that was started with `offramp serve --models`.

offramp models list --help describes the options, and so on.
"""
SECONDS = 600.0  # for a load, which reads and warms up a model in every worker
MAX_BYTES = 1 << 22


class ModelsError(OfframpError):
    """The server refused a call, or cannot be reached."""


class ServerOptions(KeyOptions):
    """A server and the keys for it."""

    url: str = Field("http://127.0.0.1:8000", description="URL of the server")
    admin_key_file: Path | None = Field(
        None,
        description="file with the admin key of the server, as `offramp serve` has it; "
        "OFFRAMP_ADMIN_KEY_FILE sets it too",
    )


class ListOptions(ServerOptions):
    """List all versions in the folder of a server, with their states."""

    api_key: SecretStr | None = Field(
        None,
        description="API key of the server, if there is no admin key; set it by OFFRAMP_API_KEY",
    )


class UnloadOptions(ServerOptions):
    """Unload a model, after the calls that it has."""

    name: CliPositionalArg[str] = Field(description="name of the model")


class LoadOptions(UnloadOptions):
    """Load a version of a model, and serve it in place of the one that answered.

    No request fails or waits for it. An older version is a rollback.
    """

    version: str | None = Field(
        None, description="version to serve; null: the newest in the folder"
    )
    share: Share = Field(
        1.0,
        description="below 1, share of the calls that the version answers as a canary, as in 5% or "
        "0.05; the version before answers the others",
    )
    shadow_share: Share | None = Field(
        None,
        description="share of the answered requests that are copied to the version and compared, "
        "while no request waits, as in 5% or 0.05; the version before answers all",
    )


def main(arguments: Sequence[str]) -> int:
    """List, load or unload models. Return the exit code: 0, 1 (refused), 2 (usage) or 130."""
    action, *rest = arguments or ["--help"]
    if action in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0
    return exit_code(lambda: _run(action, rest), extra="serving")


def _run(action: str, arguments: Sequence[str]) -> None:
    actions: Mapping[str, Callable[[Sequence[str]], None]] = {
        "list": _list,
        "load": _load,
        "unload": _unload,
    }
    if action not in actions:
        raise UsageError(f"{action}: no such action; there are {', '.join(actions)}")
    actions[action](arguments)


def _list(arguments: Sequence[str]) -> None:
    options = read_options(ListOptions, arguments, "offramp models list")
    key = options.api_key.get_secret_value() if options.api_key else ""
    rows = _post(options, "index", {}, key)
    if not isinstance(rows, list):
        raise ModelsError(f"{options.url}: not an index of models")
    lines = [["MODEL", "VERSION", "STATE", "REASON"]]
    try:
        lines += [[str(row[key]) for key in ("name", "version", "state", "reason")] for row in rows]
    except (KeyError, TypeError) as error:
        raise ModelsError(f"{options.url}: not an index of models of Offramp") from error
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        print("  ".join([*cells, line[3]]).rstrip())


def _load(arguments: Sequence[str]) -> None:
    options = read_options(LoadOptions, arguments, "offramp models load")
    parameters: dict[str, object] = {"share": options.share} if options.share < 1 else {}
    if options.shadow_share is not None:
        parameters["shadow"] = options.shadow_share
    if options.version is not None:
        parameters["version"] = options.version
    _post(options, f"models/{quote(options.name, safe='')}/load", {"parameters": parameters})


def _unload(arguments: Sequence[str]) -> None:
    options = read_options(UnloadOptions, arguments, "offramp models unload")
    _post(options, f"models/{quote(options.name, safe='')}/unload", {})


def _request(server: str, path: str, body: Mapping[str, object], key: str) -> Request:
    url = f"{server.rstrip('/')}/v2/repository/{path}"
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise UsageError(f"--url: {server}: {error}") from error
    if scheme not in ("http", "https"):
        raise UsageError(f"--url: {server} is no http or https URL")
    headers = {"Content-Type": "application/json", **authorization(key)}
    return Request(url, json.dumps(body).encode(), headers)  # noqa: S310 (checked above)


def _post(options: ServerOptions, path: str, body: Mapping[str, object], key: str = "") -> object:
    """Send a call of the repository. Return the JSON of its response.

    Raises:
        ModelsError: The server refuses the call, or cannot be reached.
        UsageError: The file with the key cannot be read, or the URL is wrong.
    """
    if options.admin_key_file is not None:
        key = read_key(options.admin_key_file)
    request = _request(options.url, path, body, key)
    try:
        with urlopen(request, timeout=SECONDS) as response:  # noqa: S310 (checked above)
            found: object = json.loads(response.read(MAX_BYTES))
            return found
    except HTTPError as error:
        raise ModelsError(_text_of(error)) from error
    except InvalidURL as error:
        raise UsageError(f"--url: {options.url}: {error}") from error
    except (URLError, TimeoutError) as error:
        raise ModelsError(f"{options.url}: {getattr(error, 'reason', error)}") from error
    except (ValueError, HTTPException) as error:
        raise ModelsError(f"{options.url}: not the response of a server of models") from error


def _text_of(error: HTTPError) -> str:
    """Return the text of an error, or its status if it is not of this server."""
    try:
        return str(json.loads(error.read(MAX_BYTES))["error"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"
