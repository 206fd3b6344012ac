"""The OpenAPI description of a stream, beside the other content types of a response."""

from __future__ import annotations

from typing import Any

SCHEMAS = "#/components/schemas"
STREAM: dict[str, Any] = {
    "schema": {
        "type": "string",
        "description": "with `Accept: text/event-stream` as the first media type: an event `exit` "
        "for each exit on the way, then `answer`, or `problem` if the request fails after that",
    },
    "x-events": {  # the data of each event, in JSON
        "exit": {"$ref": f"{SCHEMAS}/ExitAnswer"},
        "answer": {"$ref": f"{SCHEMAS}/Classification"},
        "problem": {"$ref": f"{SCHEMAS}/Problem"},
    },
}
