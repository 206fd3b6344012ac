"""Ray Serve with one replica per core and dynamic batches.

Its HTTP port is on loopback. Its other ports are on all addresses.
"""

from __future__ import annotations

import signal
import sys

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.serving.peers.common import HOST, FullDepth, setting
from benchmarks.serving.peers.settings import BATCH, WAIT_MS, WORKERS


class Classifier:
    """Network at full depth."""

    def __init__(self) -> None:
        self.model = FullDepth()

    @serve.batch(max_batch_size=setting(BATCH), batch_wait_timeout_s=setting(WAIT_MS) / 1e3)
    async def run(self, files: list[bytes]) -> list[bytes]:
        """Decode and run a batch of image files."""
        return self.model.run([self.model.decode(file) for file in files])

    async def __call__(self, request: Request) -> Response:
        """Classify the image file in the body."""
        answer = await self.run(await request.body())
        return Response(answer, media_type="application/json")


if __name__ == "__main__":
    ray.init(
        num_cpus=setting(WORKERS),
        include_dashboard=False,
        logging_level="warning",
        _node_ip_address=HOST,
    )
    serve.start(http_options={"host": HOST, "port": int(sys.argv[1]), "access_log": False})
    deployed = serve.deployment(
        num_replicas=setting(WORKERS), ray_actor_options={"num_cpus": 1}, max_ongoing_requests=64
    )(Classifier)
    serve.run(deployed.bind(), route_prefix="/classify")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
