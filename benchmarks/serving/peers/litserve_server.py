"""LitServe with one worker process per core, raw bodies and dynamic batches.

LitServe reads the annotation of `request` at run time, so `annotations` from `__future__` would
break it.
"""

import sys
from typing import Annotated

import litserve
from fastapi import Body, Response

from benchmarks.serving.peers.common import HOST, FullDepth, Image, setting
from benchmarks.serving.peers.settings import BATCH, WAIT_MS, WORKERS

JPEG = "image/jpeg"


class Classifier(litserve.LitAPI):
    """Network at full depth."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the network in each worker."""
        self.model = FullDepth()

    def decode_request(self, request: Annotated[bytes, Body(media_type=JPEG)]) -> Image:
        """Decode an image file."""
        return self.model.decode(request)

    def batch(self, inputs: list[Image]) -> list[Image]:
        """Return the inputs unchanged. `run` stacks them."""
        return inputs

    def predict(self, x: list[Image] | Image) -> list[bytes] | bytes:
        """Run a batch, or one image where batches are off."""
        return self.model.run(x) if isinstance(x, list) else self.model.run([x])[0]

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """Return the answers unchanged."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """Wrap the JSON of an answer."""
        return Response(output, media_type="application/json")


if __name__ == "__main__":
    api = Classifier(
        max_batch_size=setting(BATCH),
        batch_timeout=setting(WAIT_MS) / 1e3,
        api_path="/classify",
    )
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=setting(WORKERS), fast_queue=True
    )
    server.run(
        host=HOST,
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
