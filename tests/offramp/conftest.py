"""Use the small bundle of the server's tests."""

from tests.serving.conftest import bundle, damaged, manifest, promise_bundle, reject_bundle

__all__ = ["bundle", "damaged", "manifest", "promise_bundle", "reject_bundle"]
