"""The ONNX Runtime sessions: one for each stage, on one provider.

Every batch runs in the thread that calls `run`, which releases the GIL: parallelism comes
from the engine's threads, not from threads inside a session (idle ones would spin).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.errors import BundleError, ProviderError
from serving.manifest import Manifest, TensorSpec, read_graph

Provider = Literal["cpu", "cuda"]
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
DTYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)", "float16": "tensor(float16)"}
FATAL = 4  # log severity: what goes wrong is raised, and need not be logged as well


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What a stage gives for a batch of N.

    Attributes:
        features: the tensors it hands on, by name, [N, ...].
        probabilities: float32, [N, classes].
        confidence: float32, [N]; NaN where a probability is not finite.
    """

    features: Mapping[str, NDArray[np.generic]]
    probabilities: NDArray[np.float32]
    confidence: NDArray[np.float32]


class Runtime:
    """The stages of one bundle, ready to run.

    The graphs are loaded from the very bytes whose hash was checked.

    Args:
        folder: of the bundle.
        manifest: of the bundle.
        provider: `cpu`, or `cuda`; there is no fallback from one to the other.
        device: number of the CUDA device.

    Raises:
        BundleError: a graph is damaged, or is not as the manifest describes it.
        ProviderError: the provider is not to be had.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, provider: Provider = "cpu", device: int = 0
    ) -> None:
        self._stages = manifest.stages
        providers = _providers(provider, device)
        exit_specs = (
            TensorSpec(name="probabilities", dtype="float32", shape=(len(manifest.labels),)),
            TensorSpec(name="confidence", dtype="float32", shape=()),
        )
        self._outputs = [(*stage.features, *exit_specs) for stage in manifest.stages]
        self._sessions = []
        for stage, outputs in zip(manifest.stages, self._outputs, strict=True):
            session = _session(folder / stage.file, read_graph(folder, stage), providers)
            _check_tensors(folder / stage.file, "input", session.get_inputs(), stage.inputs)
            _check_tensors(folder / stage.file, "output", session.get_outputs(), outputs)
            self._sessions.append(session)
        self._folder = folder

    def run(
        self,
        stage: int,
        inputs: Mapping[str, NDArray[np.generic]],
        *,
        head: bool = True,  # noqa: ARG002 - not yet
    ) -> StageOutput:
        """Run a stage (from 0) on its inputs, each [N, ...]. May be called from any thread."""
        names = [spec.name for spec in self._outputs[stage]]
        *features, probabilities, confidence = self._sessions[stage].run(names, dict(inputs))
        sound = np.isfinite(probabilities).all(axis=1)
        confidence = np.where(sound, confidence, np.float32(np.nan))
        return StageOutput(dict(zip(names, features, strict=False)), probabilities, confidence)

    def warm_up(self, batch: int) -> None:
        """Run every stage once with `batch` black images, so that the first request need not.

        Raises:
            BundleError: a stage fails, or gives other shapes than the manifest says.
        """
        inputs: Mapping[str, NDArray[np.generic]] = {
            spec.name: np.zeros((batch, *spec.shape), spec.dtype) for spec in self._stages[0].inputs
        }
        for k, stage in enumerate(self._stages):
            try:
                inputs = self.run(k, inputs).features
            except Exception as error:
                raise BundleError(self._folder / stage.file, f"fails to run: {error}") from error


def _providers(provider: Provider, device: int) -> list[tuple[str, dict[str, str]]]:
    if provider == "cpu":
        return [(CPU, {})]
    if CUDA not in ort.get_available_providers():
        raise ProviderError(
            "provider cuda: this ONNX Runtime has no CUDA; install the extra `gpu` instead of `cpu`"
        )
    ort.preload_dlls()  # finds the CUDA libraries that come as Python packages
    return [(CUDA, {"device_id": str(device)})]


def _session(
    path: Path, graph: bytes, providers: Sequence[tuple[str, dict[str, str]]]
) -> ort.InferenceSession:
    wanted = providers[0][0]
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if wanted != CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    except Exception as error:
        raise BundleError(path, f"cannot be loaded on {wanted}: {error}") from error
    # ONNX Runtime falls back to the CPU in silence, whatever it was told.
    if session.get_providers()[0] != wanted:
        raise ProviderError(
            f"{wanted} cannot be used; check the driver, the device number and the extra `gpu`"
        )
    return session


def _check_tensors(
    path: Path, what: str, found: Sequence[ort.NodeArg], expected: Sequence[TensorSpec]
) -> None:
    described = {spec.name: (DTYPES[spec.dtype], spec.shape) for spec in expected}
    actual = {arg.name: (arg.type, tuple(arg.shape)) for arg in found}
    if described.keys() != actual.keys():
        raise BundleError(
            path, f"{what}s are {sorted(actual)}, the manifest says {sorted(described)}"
        )
    for name, (dtype, shape) in described.items():
        batch, *rest = actual[name][1] or (0,)
        if actual[name][0] != dtype or tuple(rest) != shape:
            wanted = (dtype, ("N", *shape))
            raise BundleError(path, f"{what} {name} is {actual[name]}, the manifest says {wanted}")
        if isinstance(batch, int):
            raise BundleError(path, f"{what} {name} has a fixed batch axis; export it dynamic")
