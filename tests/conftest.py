"""Nothing that a test does stays behind in the user's caches, or is reported to anybody."""

import os
import tempfile

_cache = tempfile.TemporaryDirectory(prefix="offramp-tests-")
os.environ["HF_HOME"] = _cache.name
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
