"""Keep `serving.app:create_app` importable, because deployments use this name."""

from __future__ import annotations

from serving.http.app import create_app

__all__ = ["create_app"]
