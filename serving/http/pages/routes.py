"""The paths of the pages. No path needs the API key: the pages hold no data of the model."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from serving.http.pages.reference import write_reference
from serving.http.pages.static import TYPES, StaticFile, load_files

INDEX = "index.html"
SHARED = ("style.css", "icon.svg")  # that the reference needs too


def pages(*, playground: bool) -> APIRouter:
    """Return the routes of the API reference and, if asked for, of the playground."""
    router = APIRouter(include_in_schema=False)
    found = load_files()
    index = found.pop(INDEX)
    served = found if playground else {name: found[name] for name in SHARED}

    @cache
    def reference(app: FastAPI) -> StaticFile:
        document: dict[str, Any] = app.openapi()
        page = write_reference(document, playground=playground)
        return StaticFile(page.encode(), TYPES[".html"])

    @router.get("/docs")
    async def docs(request: Request) -> Response:
        return _response(request, reference(request.app))

    @router.get("/pages/{name}")
    async def page_file(request: Request, name: str) -> Response:
        if name not in served:
            raise HTTPException(404)
        return _response(request, served[name])

    if playground:

        @router.get("/")
        async def show_playground(request: Request) -> Response:
            return _response(request, index)

    return router


def _response(request: Request, file: StaticFile) -> Response:
    return file.response(request.headers.get("if-none-match", ""))
