"""The model of a small request. It is found again when the body is there, after a change too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from serving.errors import ServingError
from serving.http.connection import Reply, RequestHead
from serving.http.connection.request_id import NAME as ID
from serving.http.connection.request_id import valid_request_id
from serving.http.fast_path import reply_problem
from serving.http.models.frontend import Frontend
from serving.http.models.served import ServedModel
from serving.http.openapi import CLASSIFY
from serving.http.query import version_of
from serving.models.registry import Registry

MODEL_PARTS = 3  # of the path of a model: ("models", name, call)
VERSION_PARTS = 5  # of a version: ("models", name, "versions", version, call)
DEFAULT_PATH = CLASSIFY.path.encode()


class FastModels:
    """The fast path of several models, a `connection.FastPath`.

    Args:
        frontend: The models.
    """

    def __init__(self, frontend: Frontend) -> None:
        self._metrics = frontend.metrics
        self._models: Registry[ServedModel] = frontend.models

    def head_of(self, url: bytes, headers: Mapping[bytes, bytes]) -> RequestHead | None:
        """Return the head of a request that `start` can take, as `FastPath` defines."""
        path, _, query = url.partition(b"?")
        name, version = self._asked(path)
        version = version or version_of(query)
        version = version or self._models.version_for(name, valid_request_id(headers.get(ID, b"")))
        model = self._models.get(name, version) if name else None
        head = model.fast_path.head_of(url, headers) if model is not None else None
        return head and head._replace(model=(name, version))

    def start(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        """Start to answer, or return `None`, as `FastPath` defines."""
        assert head.model is not None
        model = self._models.get(*head.model)
        return None if model is None else model.fast_path.start(head, body, reply)

    def refuse(self, error: ServingError, reply: Reply) -> None:
        """Count an error and reply with its problem, as `FastPath` defines."""
        reply_problem(self._metrics, error, reply)

    def _asked(self, path: bytes) -> tuple[str, str]:
        """Return name and version that a path asks for, empty without one."""
        if path == DEFAULT_PATH:
            return self._models.default, ""
        parts = path.decode("latin-1").removeprefix("/v2").split("/")[1:]
        if len(parts) == MODEL_PARTS:
            return parts[1], ""
        return (parts[1], parts[3]) if len(parts) == VERSION_PARTS else ("", "")
