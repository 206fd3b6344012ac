"""Without the extra `grpc` nothing is collected."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("grpc") else ["test_*.py"]
