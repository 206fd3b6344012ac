"""The model of Triton's Python backend, which runs it in a process for each instance."""

from __future__ import annotations

import numpy as np
import triton_python_backend_utils as backend

from benchmarks.serving.peers.common import FullDepth

FILE, ANSWER = "file", "answer"


class TritonPythonModel:
    """The network at full depth; the name is Triton's."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002
        """In each process."""
        self._model = FullDepth()

    def execute(self, requests: list[backend.InferenceRequest]) -> list[backend.InferenceResponse]:
        """A batch of image files, uint8 [1, length] each, to as many answers, uint8 [1, length]."""
        files = [backend.get_input_tensor_by_name(request, FILE).as_numpy() for request in requests]
        answers = self._model.run([self._model.decode(file.tobytes()) for file in files])
        return [
            backend.InferenceResponse([backend.Tensor(ANSWER, np.frombuffer(a, np.uint8)[None])])
            for a in answers
        ]
