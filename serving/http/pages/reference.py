"""The API reference at `/docs`: the OpenAPI document as one HTML page, without scripts.

FastAPI's own page loads its parts from another host, and needs inline scripts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

REFERENCE = "#/components/schemas/"
CODE = re.compile(r"`([^`]+)`")
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters or bytes",
    "maxLength": "at most {} characters or bytes",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "default": "default {}",
}
Schema = Mapping[str, Any]

MODELS = '<a href="pages/models.html">Models</a>'
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} API</title>
<link rel="icon" href="pages/icon.svg">
<link rel="stylesheet" href="pages/style.css">
</head>
<body class="reference">
<header class="top">
<h1><img src="pages/icon.svg" alt="" width="28" height="28">{title} API
<small>{version}</small></h1>
<nav aria-label="Pages">{links}</nav>
</header>
<main>
<p>{summary}</p>
{operations}
<h2 id="schemas">Schemas</h2>
{schemas}
</main>
</body>
</html>
"""


def write_reference(document: Schema, *, playground: bool) -> str:
    """Return the page of an OpenAPI document.

    Args:
        document: The OpenAPI document.
        playground: Whether to link to the playground.
    """
    info = document["info"]
    schemas = document.get("components", {}).get("schemas", {})
    return PAGE.format(
        title=escape(info["title"]),
        version=escape(info["version"]),
        summary=_text(info.get("summary", "")),
        links=_links(playground=playground),
        operations="\n".join(_operations(document["paths"])),
        schemas="\n".join(_schema(name, schemas[name]) for name in sorted(schemas)),
    )


def _links(*, playground: bool) -> str:
    pages = ['<a href="./">Playground</a>', MODELS] if playground else []
    return "".join([*pages, '<a href="openapi.json">openapi.json</a>'])


def _operations(paths: Schema) -> Iterator[str]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield _operation(path, method, operation)


def _operation(path: str, method: str, operation: Schema) -> str:
    name = escape(operation["operationId"])
    parts = [
        f'<section class="card" aria-labelledby="{name}">',
        f'<h2 id="{name}"><span class="method">{method.upper()}</span> {escape(path)}</h2>',
        _paragraphs(operation.get("description", "")),
    ]
    if "security" in operation:
        parts.append("<p>Needs the API key: <code>Authorization: Bearer KEY</code></p>")
    if parameters := operation.get("parameters"):
        parts.append(_table("Parameters", [_parameter(each) for each in parameters]))
    if body := operation.get("requestBody"):
        parts.append(_request_body(body))
    parts.append(_table("Responses", _responses(operation["responses"])))
    return "\n".join([*parts, "</section>"])


def _request_body(body: Schema) -> str:
    text = _text(body.get("description", ""))
    contents = body["content"].items()
    rows = [(f"<code>{escape(kind)}</code>", _content(each), "") for kind, each in contents]
    return f"<h3>Request body</h3><p>{text}</p>{_rows(rows)}"


def _responses(responses: Schema) -> Iterator[tuple[str, str, str]]:
    for status, response in responses.items():
        yield status, _contents(response), _text(response["description"])


def _parameter(parameter: Schema) -> tuple[str, str, str]:
    name = f"<code>{escape(parameter['name'])}</code>"
    return name, _type(parameter["schema"]), _text(parameter.get("description", ""))


def _contents(response: Schema) -> str:
    return "<br>".join(
        f"<code>{escape(kind)}</code> {_content(each)}"
        for kind, each in response.get("content", {}).items()
    )


def _content(content: Schema) -> str:
    schema = content.get("schema", {})
    text = _text(schema.get("description", ""))
    return f"{_type(schema)}: {text}" if text else _type(schema)


def _schema(name: str, schema: Schema) -> str:
    required = schema.get("required", [])
    rows = [
        (
            f"<code>{escape(each)}</code>",
            _type(field) + ("" if each in required else ", optional"),
            _text(field.get("description", "")),
        )
        for each, field in schema.get("properties", {}).items()
    ]
    table = _rows(rows) if rows else f"<p>{_type(schema)}</p>"
    return (
        f'<section class="card" aria-labelledby="schema-{escape(name)}">'
        f'<h3 id="schema-{escape(name)}">{escape(name)}</h3>'
        f"{_paragraphs(schema.get('description', ''))}{table}</section>"
    )


def _type(schema: Schema) -> str:
    """Return a short HTML text for the type of a value, with its bounds."""
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).removeprefix(REFERENCE))
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    return ", ".join([_kind(schema), *_bounds(schema)])


def _kind(schema: Schema) -> str:
    """Return the type of a value, with that of what it contains."""
    name = escape(str(schema.get("type", "any value")))
    if name == "array":
        return f"list of {_type(schema.get('items') or {})}"
    values = schema.get("additionalProperties")
    return f"{name} with values of {_type(values)}" if isinstance(values, dict) else name


def _bounds(schema: Schema) -> Iterator[str]:
    for key, text in BOUNDS.items():
        if schema.get(key) is not None:
            yield text.format(escape(json.dumps(schema[key])))


def _table(title: str, rows: Iterable[tuple[str, str, str]]) -> str:
    return f"<h3>{title}</h3>{_rows(rows)}"


def _rows(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return a table of HTML cells. The first cell of each row is its header."""
    lines = [
        f'<tr><th scope="row">{name}</th><td>{kind}</td><td>{text}</td></tr>'
        for name, kind, text in rows
    ]
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(part)}</p>" for part in text.split("\n\n") if part.strip())


def _text(text: str) -> str:
    """Return text as HTML. Words between backticks become code."""
    return CODE.sub(r"<code>\1</code>", escape(text))
