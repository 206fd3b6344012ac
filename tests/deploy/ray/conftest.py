"""Use the small bundle of the server's tests."""

from tests.serving.conftest import bundle, reject_bundle

__all__ = ["bundle", "reject_bundle"]
