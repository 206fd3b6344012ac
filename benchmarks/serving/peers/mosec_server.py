"""Mosec, a server in Rust, with one worker process per core and dynamic batches."""

from __future__ import annotations

from mosec import Server, Worker

from benchmarks.serving.peers.common import FullDepth, Image, setting
from benchmarks.serving.peers.settings import BATCH, WAIT_MS, WORKERS


class Classifier(Worker):
    """Network at full depth."""

    def __init__(self) -> None:
        super().__init__()
        self.model = FullDepth()

    def deserialize(self, data: bytes) -> Image:
        """Decode an image file."""
        return self.model.decode(data)

    def forward(self, data: list[Image] | Image) -> list[bytes] | bytes:
        """Run a batch, or one image where batches are off."""
        return self.model.run(data) if isinstance(data, list) else self.model.run([data])[0]

    def serialize(self, data: bytes) -> bytes:
        """Return the JSON of an answer unchanged."""
        return data


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Classifier,
        num=setting(WORKERS),
        max_batch_size=setting(BATCH),
        max_wait_time=setting(WAIT_MS),
        route="/classify",
    )
    server.run()
