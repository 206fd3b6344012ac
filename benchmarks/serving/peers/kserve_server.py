"""KServe's model server, one process per core with one thread each. Listens on all addresses.

The V1 protocol passes on a body that is not JSON unchanged. The server has no batches.
"""

from __future__ import annotations

import logging
import sys
from functools import cache

from kserve import Model, ModelServer

from benchmarks.serving.peers.common import FullDepth, setting
from benchmarks.serving.peers.settings import WORKERS

logging.disable(logging.INFO)  # in each process; it logs several lines per request

full = cache(FullDepth)  # loaded in each process, which receives the model by pickle


class Classifier(Model):
    """Network at full depth."""

    def predict(self, payload: bytes, headers: dict[str, str] | None = None) -> bytes:  # noqa: ARG002
        """Classify the image file in the body."""
        return full().answer(payload)


if __name__ == "__main__":
    model = Classifier("classifier")
    model.ready = True
    ModelServer(
        http_port=int(sys.argv[1]),
        workers=setting(WORKERS),
        enable_grpc=False,
        enable_latency_logging=False,
    ).start([model])
