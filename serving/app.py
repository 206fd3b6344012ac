"""Keep `serving.app:create_app` importable for deployments that name it."""

from __future__ import annotations

from serving.http.app import create_app

__all__ = ["create_app"]
