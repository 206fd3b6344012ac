"""Model for Triton's Python backend, which runs each instance in a process of its own."""

from __future__ import annotations

import numpy as np
import triton_python_backend_utils as backend

from benchmarks.serving.peers.common import FullDepth
from benchmarks.serving.peers.settings import ANSWER, FILE


class TritonPythonModel:
    """Network at full depth. Triton prescribes the name of the class."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002
        """Load the network in each process."""
        self._model = FullDepth()

    def execute(self, requests: list[backend.InferenceRequest]) -> list[backend.InferenceResponse]:
        """Classify a batch: image files, uint8 [1, length] each, to answers, uint8 [1, length]."""
        files = [backend.get_input_tensor_by_name(request, FILE).as_numpy() for request in requests]
        answers = self._model.run([self._model.decode(file.tobytes()) for file in files])
        return [
            backend.InferenceResponse([backend.Tensor(ANSWER, np.frombuffer(a, np.uint8)[None])])
            for a in answers
        ]
