"""Split a network into one torch module for each stage, and export these as ONNX graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import onnx
import torch
from torch import Tensor, nn

from exporter.graph import CONFIDENCE, IMAGE, OPSET, PROBABILITIES, StageGraph
from training.networks.multi_exit import Features, MultiExitNetwork
from training.surgery.boundary import Surgery


class StageModule(nn.Module):
    """Stage k with its exit head, from the features of one boundary to those of the next.

    Normalisation, softmax, temperature and confidence are inside. Surgery is inside only if it
    changes values, which it does without referencing. Otherwise it only stops gradients.

    Args:
        network: The network, in eval mode.
        k: Number of the stage, from 0.
        confidence: Function from probabilities [N, classes] to confidences [N].
    """

    temperature: Tensor

    def __init__(
        self, network: MultiExitNetwork, k: int, confidence: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.normalize = network.normalize if k == 0 else None
        self.stage = network.stages[k]
        self.head = network.heads[k]
        self.last = k == network.exits - 1
        surgery = Surgery("joint") if self.last else network.surgery_at(k + 1)
        self._surgery = surgery if surgery.changes_values else Surgery("joint")
        self._channel_dim = network.channel_dim
        # not 1: the exporter would remove a division by 1
        self.register_buffer("temperature", torch.tensor(2.0))
        self._confidence = confidence
        assert not network.training

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Return features, probabilities [N, classes], confidence [N].

        The last stage returns no features.
        """
        inputs = list(features) if self.normalize is None else [self.normalize(features[0])]
        outputs: Features = self.stage(inputs)
        to_exit = outputs[-1]
        if not self.last:
            outputs[-1], to_exit = self._surgery.mask(to_exit, self._channel_dim)
        probabilities = torch.softmax(self.head(to_exit) / self.temperature, dim=1)
        to_next = [] if self.last else outputs
        return (*to_next, probabilities, self._confidence(probabilities))


def split(network: MultiExitNetwork, confidence: Callable[[Tensor], Tensor]) -> list[StageModule]:
    """Return one module for each stage of a network, which must be in eval mode."""
    assert not network.training
    return [StageModule(network, k, confidence).eval() for k in range(network.exits)]


def export_stages(modules: list[StageModule], size: int) -> list[StageGraph]:
    """Export a chain of stages.

    Args:
        modules: The result of `split`.
        size: Height and width of the image, in pixels.
    """
    graphs = []
    # the exporter would treat a batch of 1 as a constant
    inputs: tuple[Tensor, ...] = (torch.zeros(2, size, size, 3, dtype=torch.uint8),)
    names = [IMAGE]
    for k, module in enumerate(modules, 1):
        with torch.no_grad():
            features = module(*inputs)[:-2]
        outputs = [f"features_{k}_{s}" for s in range(1, len(features) + 1)]
        model = _export(module, inputs, names, [*outputs, PROBABILITIES, CONFIDENCE])
        graphs.append(StageGraph(model))
        inputs, names = features, outputs
    return graphs


def _export(
    module: StageModule, tensors: tuple[Tensor, ...], inputs: list[str], outputs: list[str]
) -> onnx.ModelProto:
    assert not module.training, "batch norm would be exported in training mode"
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        # the exporter's internals use deprecated parts of torch and onnxscript
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            tensors,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes={"features": tuple({0: batch} for _ in tensors)},
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove metadata that describes the exporting machine and code."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
