"""Export stage modules as ONNX graphs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import onnx
import torch
from torch import Tensor

from exporter.network.stage_modules import SideBySide, StageModule, inputs_of
from exporter.stages.graph import IMAGE, OPSET, StageGraph
from offramp.bundle.graphs import EXIT_OUTPUTS, cut, exit_outputs, renamed

BATCH = "batch"
_READ = "read_"  # prefix of inputs while all stages are in one graph


def export_stages(modules: Sequence[StageModule], size: int) -> list[StageGraph]:
    """Export a chain of stages.

    All stages are exported side by side in one call, because torch's exporter parses the source of
    500 operators in each call.

    Args:
        modules: The result of `exporter.network.stage_modules.split`.
        size: Height and width of the image, in pixels.
    """
    # the exporter would treat a batch of 1 as a constant
    image = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    ports = list(_ports(modules, image))
    whole = _export(modules, ports)
    values = {value.name: value for value in whole.graph.input}
    graphs = []
    for each, stage in zip(ports, cut(whole, [each.outputs for each in ports]), strict=True):
        del stage.graph.input[:]  # in the module's order, with those that it does not use
        stage.graph.input.extend(values[name] for name in each.unique_inputs)
        names = each.names_alone([tensor.name for tensor in stage.graph.initializer])
        graphs.append(StageGraph(_with_batch(renamed(stage, names))))
    return graphs


@dataclass(frozen=True, slots=True)
class _Ports:
    """Inputs and outputs of a stage.

    Attributes:
        stage: Number of the stage, from 0.
        tensors: Examples of its inputs.
        inputs: Names of its inputs.
        features: Names of the features that it gives.
        scores: Names of the outputs of its exit while all stages are in one graph.
    """

    stage: int
    tensors: tuple[Tensor, ...]
    inputs: Sequence[str]
    features: Sequence[str]
    scores: Sequence[str]

    @property
    def outputs(self) -> list[str]:
        """Names of all outputs while all stages are in one graph."""
        return [*self.features, *self.scores]

    @property
    def unique_inputs(self) -> list[str]:
        """Names of the inputs while all stages are in one graph: several can read the image."""
        return [f"{_READ}{self.stage}_{name}" for name in self.inputs]

    def names_alone(self, weights: Iterable[str]) -> dict[str, str]:
        """Return new names for all that has another name in a graph of this stage alone."""
        names = dict(zip(self.unique_inputs, self.inputs, strict=True))
        names |= dict(zip(self.scores, EXIT_OUTPUTS, strict=True))
        return names | {name: name.removeprefix(f"stages.{self.stage}.") for name in weights}


@torch.no_grad()
def _ports(modules: Sequence[StageModule], image: Tensor) -> Iterator[_Ports]:
    """Run the stages on an image, and yield the inputs and outputs of each."""
    names, features = list[str](), tuple[Tensor, ...]()
    for k, (module, scores) in enumerate(zip(modules, exit_outputs(len(modules)), strict=True)):
        # torch would take the same tensor twice for one input
        tensors = inputs_of(module, image.clone(), features)
        inputs = [IMAGE] if module.reads_image else names
        features = module(*tensors)[:-2]
        names = [f"features_{k + 1}_{i}" for i in range(1, len(features) + 1)]
        yield _Ports(k, tensors, inputs, names, scores)


def _export(modules: Sequence[StageModule], ports: Sequence[_Ports]) -> onnx.ModelProto:
    """Export stages side by side."""
    assert not any(module.training for module in modules), "batch norm would be in training mode"
    # with one name for all, a stage would read its batch size from the inputs of the first
    batches = [torch.export.Dim(f"{BATCH}_{k}", min=1) for k in range(len(modules))]
    shapes = tuple({0: b} for b, each in zip(batches, ports, strict=True) for _ in each.tensors)
    with warnings.catch_warnings():
        # the exporter's internals use deprecated parts of torch and onnxscript
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            SideBySide(modules, [len(each.tensors) for each in ports]).eval(),
            tuple(chain.from_iterable(each.tensors for each in ports)),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=[name for each in ports for name in each.unique_inputs],
            output_names=[name for each in ports for name in each.outputs],
            dynamic_shapes={"features": shapes},
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    return model


def _with_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a stage whose batch axis has the same name in all stages, after a check."""
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param.startswith(f"{BATCH}_"):
                dim.dim_param = BATCH
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
