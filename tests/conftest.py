"""Keep tests out of the user's caches and turn telemetry off."""

import os
import tempfile

_cache = tempfile.TemporaryDirectory(prefix="offramp-tests-")
os.environ["HF_HOME"] = _cache.name
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
