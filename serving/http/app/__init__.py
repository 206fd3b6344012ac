"""The app of a server: its endpoints (`application`), built from settings (`assembly`)."""

from serving.http.app.application import Offramp
from serving.http.app.assembly import create_app

__all__ = ["Offramp", "create_app"]
