"""Nothing that a test does stays behind in the user's caches."""

import os
import tempfile

_cache = tempfile.TemporaryDirectory(prefix="offramp-tests-")
os.environ["HF_HOME"] = _cache.name
