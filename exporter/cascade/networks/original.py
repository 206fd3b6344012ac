"""The networks of a cascade as they were given, run by ONNX Runtime to compare stages with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from exporter.cascade.networks.network import Network
from exporter.errors import ExportError, VerificationError, in_short
from exporter.stages.runner import session_options

Kind = Literal["logits", "probabilities"]
Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Output = NDArray[np.generic] | list[object] | dict[str, object]  # of ONNX Runtime
TOLERANCE = 1e-4  # of a probability
ROUNDING = 1e-2  # of a probability in 16 or 8 bits, in batches of other sizes
SUMS = 1e-2  # by which the sum of probabilities in 16 bits can differ from 1
BATCH = 32


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and deviation of each channel, of pixels in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def steps(self) -> Iterator[tuple[Literal["Div", "Sub"], tuple[float, ...]]]:
        """Yield operators and their second operand for each channel, from pixels as floats.

        They are those of torchvision, in its order. A network with integers rounds the image, so
        that the last bit of a float can decide.
        """
        if all(std == 1 / 255 for std in self.std):
            if any(self.mean):
                yield "Sub", tuple(255 * mean for mean in self.mean)
            return
        yield "Div", (255.0,) * 3
        if any(self.mean):
            yield "Sub", self.mean
        if any(std != 1 for std in self.std):
            yield "Div", self.std

    def apply(self, pixels: Pixels) -> Array:
        """Return pixels [..., 3] as a network reads them, float32."""
        normal = pixels.astype(np.float32)
        for operator, values in self.steps():
            function = np.divide if operator == "Div" else np.subtract
            normal = function(normal, np.array(values, np.float32))
        return normal


class Original:
    """A network as its file gives it.

    Args:
        network: The network.
        size: Height and width of the images that it reads.
        normalisation: Normalisation of the images. `None`: it reads pixels.
        labels: Number of labels.

    Attributes:
        batch: Size of the batches that it takes. `None`: any.
        output: Name of the output with a number for each label.

    Raises:
        ExportError: ONNX Runtime cannot run it, or it has no such output.
    """

    def __init__(
        self, network: Network, size: int, normalisation: Normalisation | None, labels: int
    ) -> None:
        self._network, self._normalisation = network, normalisation
        self.batch = network.image.batch
        try:
            options = session_options()
            graph = network.original.SerializeToString()
            self._session = ort.InferenceSession(graph, options, ["CPUExecutionProvider"])
            outputs = self._run_black(self.batch or 1, size)
        except Exception as error:
            raise ExportError(
                f"{network.name}: cannot be run by ONNX Runtime on images of {size} pixels: "
                f"{in_short(error, 400)}"
            ) from error
        self.output = _output_for(network, outputs, labels)
        if self.batch is None and not self._takes_batches(size):
            self.batch = 1

    def outputs(self, pixels: Pixels) -> Array:
        """Return the outputs for images of its size, float32 [N, labels]."""
        step = self.batch or BATCH
        parts = []
        for start in range(0, len(pixels), step):
            part = pixels[start : start + step]
            missing = (self.batch or len(part)) - len(part)
            fed = self._fed(np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]))
            found = self._session.run([self.output], {self._network.image.name: fed})[0]
            parts.append(found.reshape(len(found), -1)[: len(part)].astype(np.float32))
        return np.concatenate(parts)

    def _takes_batches(self, size: int) -> bool:
        """Return whether a network whose file states a dynamic batch has one.

        A traced network can have the batch of its example in a Reshape.
        """
        try:
            return len(self._run_black(BATCH, size)[self.output]) == BATCH
        except Exception:  # noqa: BLE001 (ONNX Runtime has no error of its own)
            return False

    def _run_black(self, batch: int, size: int) -> dict[str, Output]:
        black = self._fed(np.zeros((batch, size, size, 3), np.uint8))
        names = [value.name for value in self._session.get_outputs()]
        found = self._session.run(names, {self._network.image.name: black})
        return dict(zip(names, found, strict=True))

    def _fed(self, pixels: Pixels) -> NDArray[np.generic]:
        image = self._network.image
        normal = pixels if self._normalisation is None else self._normalisation.apply(pixels)
        ordered = normal.transpose(0, 3, 1, 2) if image.layout == "nchw" else normal
        return np.ascontiguousarray(ordered, dtype=image.dtype)


def _output_for(network: Network, outputs: dict[str, Output], labels: int) -> str:
    """Return the output that has one number for each label."""
    name = network.name
    widths = {
        output: value.shape[1]
        for output, value in outputs.items()
        if isinstance(value, np.ndarray)
        and value.ndim >= 2
        and value.dtype.kind == "f"
        and value[0].size == value.shape[1]
    }
    fitting = _without_softmax([output for output, n in widths.items() if n == labels], network)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ExportError(
            f"{name}: has {len(fitting)} outputs of {labels} numbers ({', '.join(fitting)}); leave "
            "only the answer's in the file (onnx.utils.extract_model)"
        )
    if not widths:
        shapes = ", ".join(f"{output} {_shape_of(value)}" for output, value in outputs.items())
        raise ExportError(
            f"{name}: is not an image classifier: it has no output [N, classes] in floats, only "
            f"{shapes}"
        )
    most = max(widths.values())
    raise ExportError(
        f"{name}: answers with {most} classes, and there are {labels} labels; all networks need "
        "the same labels. --classes FILE states them, one on a line"
    )


def _without_softmax(outputs: list[str], network: Network) -> list[str]:
    """Return outputs without those that are the softmax of another one."""
    softmax = {
        node.output[0]
        for node in network.model.graph.node
        if node.op_type == "Softmax" and node.input[0] in outputs
    }
    return [output for output in outputs if output not in softmax]


def _shape_of(value: Output) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return "(a sequence or map; leave the tensor before ZipMap as the output instead)"


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
    else:  # in few bits they do not sum to 1, and the stage divides them by their sum
        raised = np.maximum(outputs, 0)
    found: Array = raised / raised.sum(axis=1, keepdims=True)
    return found[:, list(order)]


def check_equal(name: str, actual: Array, expected: Array, most: float = TOLERANCE) -> float:
    """Return the largest difference of a probability.

    Raises:
        VerificationError: It is more than `most`.
    """
    difference = float(np.abs(actual - expected).max())
    if not difference <= most:  # written like this, NaN fails too
        raise VerificationError(
            f"{name}: its stage gives other answers than the file: probabilities differ by "
            f"{difference:.1e}, more than {most:.0e}"
        )
    return difference


def check_alone(name: str, together: Array, alone: Array) -> None:
    """Check that probabilities of images in a batch are those of the first of them alone.

    Raises:
        VerificationError: They differ by more than ROUNDING.
    """
    difference = float(np.abs(together[: len(alone)] - alone).max())
    if not difference <= ROUNDING:
        raise VerificationError(
            f"{name}: its answer for an image depends on the other images of the batch "
            f"(probabilities differ by {difference:.1e}); export it in evaluation mode"
        )
