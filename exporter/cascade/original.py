"""The networks of a cascade as they were given, run by ONNX Runtime to compare stages with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from exporter.cascade.network import Network
from exporter.errors import ExportError, VerificationError
from exporter.stage_runner import session_options

Kind = Literal["logits", "probabilities"]
Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
TOLERANCE = 1e-4  # of a probability
SUMS = 1e-2  # by which the sum of probabilities in 16 bits can differ from 1
BATCH = 32


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and deviation of each channel, of pixels in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def apply(self, pixels: Pixels) -> Array:
        """Return pixels [..., 3] as a network reads them, float32."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        normal: Array = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        return normal


class Original:
    """A network as its file gives it.

    Args:
        network: The network.
        size: Height and width of the images that it reads.
        normalisation: Normalisation of the images. `None`: it reads pixels.
        labels: Number of labels.

    Attributes:
        output: Name of the output with a number for each label.

    Raises:
        ExportError: ONNX Runtime cannot run it, or it has no such output.
    """

    def __init__(
        self, network: Network, size: int, normalisation: Normalisation | None, labels: int
    ) -> None:
        self._network, self._normalisation = network, normalisation
        try:
            options = session_options()
            options.log_severity_level = 4  # errors are raised
            graph = network.model.SerializeToString()
            self._session = ort.InferenceSession(graph, options, ["CPUExecutionProvider"])
            black = self._fed(np.zeros((network.image.batch or 1, size, size, 3), np.uint8))
            outputs = self._session.run(None, {network.image.name: black})
        except Exception as error:
            raise ExportError(
                f"{network.name}: cannot be run by ONNX Runtime on images of {size} pixels: {error}"
            ) from error
        names = [value.name for value in self._session.get_outputs()]
        self.output = _output_for(network.name, dict(zip(names, outputs, strict=True)), labels)

    def outputs(self, pixels: Pixels) -> Array:
        """Return the outputs for images of its size, float32 [N, labels]."""
        fixed = self._network.image.batch
        step = fixed or BATCH
        parts = []
        for start in range(0, len(pixels), step):
            part = pixels[start : start + step]
            missing = (fixed or len(part)) - len(part)
            fed = self._fed(np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]))
            found = self._session.run([self.output], {self._network.image.name: fed})[0]
            parts.append(found.reshape(len(found), -1)[: len(part)].astype(np.float32))
        return np.concatenate(parts)

    def _fed(self, pixels: Pixels) -> NDArray[np.generic]:
        image = self._network.image
        normal = pixels if self._normalisation is None else self._normalisation.apply(pixels)
        ordered = normal.transpose(0, 3, 1, 2) if image.layout == "nchw" else normal
        return np.ascontiguousarray(ordered, dtype=image.dtype)


def _output_for(name: str, outputs: dict[str, NDArray[np.generic]], labels: int) -> str:
    """Return the output that has one number for each label."""
    widths = {
        output: value.shape[1]
        for output, value in outputs.items()
        if value.ndim >= 2 and value.dtype.kind == "f" and value[0].size == value.shape[1]
    }
    fitting = [output for output, width in widths.items() if width == labels]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ExportError(
            f"{name}: has {len(fitting)} outputs of {labels} numbers ({', '.join(fitting)}); leave "
            "only the answer's in the file"
        )
    if not widths:
        shapes = ", ".join(f"{output} {list(value.shape)}" for output, value in outputs.items())
        raise ExportError(
            f"{name}: is not an image classifier: it has no output [N, classes], only {shapes}"
        )
    most = max(widths.values())
    raise ExportError(
        f"{name}: answers with {most} classes, and there are {labels} labels; all networks need "
        "the same labels. --classes FILE states them, one on a line"
    )


def are_probabilities(outputs: Array) -> bool:
    """Return whether outputs [N, classes] are probabilities: at least 0, with a sum of 1."""
    return bool(outputs.min() >= -SUMS and np.abs(outputs.sum(axis=1) - 1).max() <= SUMS)


def kind_of(name: str, outputs: Array, stated: Kind | None) -> Kind:
    """Return what the outputs [N, classes] of a network are.

    Args:
        name: Name of the network, for errors.
        outputs: Its outputs for held-out images.
        stated: What the user says they are. `None`: nothing.

    Raises:
        ExportError: They are not what the user says, or not finite.
    """
    if not np.isfinite(outputs).all():
        raise ExportError(f"{name}: some of its outputs are not finite (NaN or infinite)")
    found: Kind = "probabilities" if are_probabilities(outputs) else "logits"
    if stated == "probabilities" and found == "logits":
        sums = outputs.sum(axis=1)
        raise ExportError(
            f"--outputs: {name} gives logits, not probabilities: its outputs sum to "
            f"{sums.min():.3g} to {sums.max():.3g}, not to 1"
        )
    if stated == "logits" and found == "probabilities":
        raise ExportError(
            f"--outputs: {name} gives probabilities, not logits: its outputs sum to 1"
        )
    if found == "logits" and outputs.min() >= 0 and outputs.max() <= 1 and stated is None:
        raise ExportError(
            f"{name}: all its outputs are from 0 to 1 and do not sum to 1, as of a sigmoid; a "
            "cascade needs one label for each image. If they are logits, say --outputs logits"
        )
    return found


def probabilities(outputs: Array, kind: Kind, order: Sequence[int]) -> Array:
    """Return the probabilities [N, labels] of a network's outputs, in the order of the labels."""
    if kind == "logits":
        raised = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        outputs = raised / raised.sum(axis=1, keepdims=True)
    return outputs[:, list(order)]


def check_equal(name: str, actual: Array, expected: Array) -> float:
    """Return the largest difference of a probability.

    Raises:
        VerificationError: It is more than TOLERANCE.
    """
    difference = float(np.abs(actual - expected).max())
    if not difference <= TOLERANCE:  # written like this, NaN fails too
        raise VerificationError(
            f"{name}: its stage gives other answers than the file: probabilities differ by "
            f"{difference:.1e}, more than {TOLERANCE:.0e}"
        )
    return difference
