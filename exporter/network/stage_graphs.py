"""Export stage modules as ONNX graphs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import chain

import onnx
import torch
from torch import Tensor

from exporter.graph import IMAGE, OPSET, StageGraph
from exporter.network.stage_modules import SideBySide, StageModule, inputs_of
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
    tensors: list[tuple[Tensor, ...]] = []
    names: list[list[str]] = []
    outputs: list[list[str]] = []
    given, features = list[str](), tuple[Tensor, ...]()
    exits = exit_outputs(len(modules))
    with torch.no_grad():
        for k, (module, scores) in enumerate(zip(modules, exits, strict=True), 1):
            # torch would take the same tensor twice for one input
            tensors.append(inputs_of(module, image.clone(), features))
            names.append([IMAGE] if module.reads_image else given)
            features = module(*tensors[-1])[:-2]
            given = [f"features_{k}_{i}" for i in range(1, len(features) + 1)]
            outputs.append([*given, *scores])
    # several stages can read the image
    inputs = [[f"{_READ}{k}_{name}" for name in each] for k, each in enumerate(names)]
    whole = _export(modules, tensors, inputs, outputs)
    values, graphs = {value.name: value for value in whole.graph.input}, []
    for k, stage in enumerate(cut(whole, outputs)):
        del stage.graph.input[:]  # in the module's order, with those that it does not use
        stage.graph.input.extend(values[name] for name in inputs[k])
        new = dict(zip(inputs[k], names[k], strict=True))
        new |= dict(zip(exits[k], EXIT_OUTPUTS, strict=True))
        new |= {t.name: t.name.removeprefix(f"stages.{k}.") for t in stage.graph.initializer}
        graphs.append(StageGraph(_with_batch(renamed(stage, new))))
    return graphs


def _export(
    modules: Sequence[StageModule],
    tensors: Sequence[tuple[Tensor, ...]],
    inputs: Sequence[Sequence[str]],
    outputs: Sequence[Sequence[str]],
) -> onnx.ModelProto:
    """Export stages side by side. Tensors and names are given for each stage."""
    assert not any(module.training for module in modules), "batch norm would be in training mode"
    # with one name for all, a stage would read its batch size from the inputs of the first
    batches = [torch.export.Dim(f"{BATCH}_{k}", min=1) for k in range(len(modules))]
    shapes = tuple({0: b} for b, each in zip(batches, tensors, strict=True) for _ in each)
    with warnings.catch_warnings():
        # the exporter's internals use deprecated parts of torch and onnxscript
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            SideBySide(modules, [len(each) for each in tensors]).eval(),
            tuple(chain.from_iterable(tensors)),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=list(chain.from_iterable(inputs)),
            output_names=list(chain.from_iterable(outputs)),
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
