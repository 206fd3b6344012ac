"""Convert a graph to 16-bit floats, for GPUs: computation and features between stages.

Everything after the last matrix product of each exit (temperature, softmax, confidence) stays in
32 bits. Thresholds must separate confidences near 1, and 16-bit floats are .0005 apart there.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto, TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from offramp.bundle.graphs import cut

_PRODUCTS = ("Conv", "Gemm", "MatMul")


def convert_to_fp16(model: ModelProto) -> ModelProto:
    """Return the same graph in 16-bit floats, up to the last products of the heads.

    Args:
        model: A graph in 32-bit floats, with sorted nodes. Its outputs are those of exits.
    """
    tail = _after_products(model)
    computed = {name for node in tail for name in node.output}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    read = dict.fromkeys(n for node in tail for n in node.input if n and n not in computed)
    logits = [name for name in read if name not in weights]
    (body,) = cut(model, [logits])
    half: ModelProto = convert_float_to_float16(body)
    half.graph.name = model.graph.name
    del half.graph.output[:]
    half.graph.output.extend(model.graph.output)
    wide = {name: f"float32/{name}" for name in read}
    for name in logits:
        cast = wide[name]
        node = helper.make_node("Cast", [name], [cast], name=cast, to=TensorProto.FLOAT)
        half.graph.node.append(node)
    for node in tail:
        half.graph.node.append(node)
        inputs = half.graph.node[-1].input
        inputs[:] = [wide.get(name, name) for name in inputs]
    for name in (n for n in read if n in weights):
        half.graph.initializer.append(weights[name])
        half.graph.initializer[-1].name = wide[name]
    return half


def _after_products(model: ModelProto) -> list[NodeProto]:
    """Return the nodes between the last matrix products and the outputs, in order."""
    producers = {name: i for i, node in enumerate(model.graph.node) for name in node.output}
    found: set[int] = set()
    pending: list[str] = [value.name for value in model.graph.output]
    while pending:
        i = producers.get(pending.pop())
        if i is None or i in found or model.graph.node[i].op_type in _PRODUCTS:
            continue
        found.add(i)
        pending += model.graph.node[i].input
    return [model.graph.node[i] for i in sorted(found)]
