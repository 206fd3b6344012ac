"""Use the photos and networks of the tests of cascades."""

from tests.exporter.cascade.conftest import networks, photos

__all__ = ["networks", "photos"]
