"""Join stage graphs into one graph, and cut a graph into stages.

    whole = join(stages)                 has the outputs of all exits
    stages = cut(whole, exit_outputs(n)) each node belongs to the first exit that needs it

A node that only deeper exits need is therefore in a deeper stage (lazy evaluation, MSDNet, ICLR
2018, section 4), and a stage can read features of any earlier stage. The functions are pure and
work with all operators.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from google.protobuf.message import Message
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from offramp.bundle.errors import CutError

EXIT_OUTPUTS = ("probabilities", "confidence")
SCORE = "score"
SCORED_OUTPUTS = (*EXIT_OUTPUTS, SCORE)  # of a bundle with scores for its record `reject`
# Their outputs depend on no value in the batch, and must not be stored for each image.
_SHAPES = ("Shape", "Size")
# Repeated in each stage instead of handed on, because the output has four times the bytes.
_EXPANDING = ("DequantizeLinear",)
_CONTROL_FLOW = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def exit_outputs(exits: int, names: Sequence[str] = EXIT_OUTPUTS) -> list[tuple[str, ...]]:
    """Return the output names of each exit in a graph that `join` made from `exits` stages."""
    return [tuple(f"{name}_{k}" for name in names) for k in range(1, exits + 1)]


def join(stages: Sequence[ModelProto], exit_names: Sequence[str] = EXIT_OUTPUTS) -> ModelProto:
    """Join a chain of stages, which read features of earlier ones, into one graph.

    The inputs of the first stage keep their names. Every other name of stage k gets the prefix
    `k/`, except the exit's outputs, which become `probabilities_k` and `confidence_k`.

    Args:
        stages: The graphs, in their order.
        exit_names: Outputs of an exit. Others than these become inner values.

    Raises:
        CutError: A stage reads a tensor that no earlier stage gives, or operator sets differ.
    """
    whole = _without_graph(stages[0])
    whole.graph.name = "whole"
    given = {value.name: value.name for value in stages[0].graph.input}
    whole.graph.input.extend(stages[0].graph.input)
    exits = exit_outputs(len(stages), exit_names)
    for k, (stage, outputs) in enumerate(zip(stages, exits, strict=True), 1):
        if list(stage.opset_import) != list(stages[0].opset_import):
            raise CutError(f"stage {k} has other operator sets than stage 1")
        if unknown := {value.name for value in stage.graph.input} - given.keys():
            raise CutError(
                f"stage {k} reads {', '.join(sorted(unknown))}, which no earlier stage gives"
            )
        names = {value.name: given[value.name] for value in stage.graph.input}
        names |= dict(zip(exit_names, outputs, strict=True))
        made = {name: f"{k}/{name}" for name in value_names(stage) if name not in names}
        part = renamed(stage, names | made)
        given |= made
        _append(whole, part, outputs)
    return whole


def without_weights(model: ModelProto, names: Container[str]) -> ModelProto:
    """Return a graph with the shapes of these weights only. A session gets their values elsewhere.

    It is small, so that parts of it are made and written fast.
    """
    made = _without_graph(model)
    _add_fields(made.graph, model.graph, but="initializer")
    for tensor in model.graph.initializer:
        if tensor.name not in names:
            made.graph.initializer.append(tensor)
            continue
        shape = made.graph.initializer.add(
            name=tensor.name,
            data_type=tensor.data_type,
            dims=tensor.dims,
            data_location=TensorProto.EXTERNAL,
        )
        shape.external_data.add(key="location", value="elsewhere")
    return made


def _without_graph(model: ModelProto) -> ModelProto:
    """Return what a model has beside its graph, without a copy of its weights."""
    made = ModelProto()
    _add_fields(made, model, but="graph")
    return made


def _add_fields(made: Message, source: Message, but: str) -> None:
    """Add the fields of a message, which are numbers, texts or lists, to an empty one."""
    for field, value in source.ListFields():
        if isinstance(value, int | str):
            setattr(made, field.name, value)
        elif field.name != but:
            getattr(made, field.name).extend(value)


def value_names(model: ModelProto) -> Iterator[str]:
    """Yield the names of all weights and node outputs."""
    yield from (tensor.name for tensor in model.graph.initializer)
    yield from (name for node in model.graph.node for name in node.output if name)


def _append(whole: ModelProto, part: ModelProto, outputs: Sequence[str]) -> None:
    whole.graph.node.extend(part.graph.node)
    whole.graph.initializer.extend(part.graph.initializer)
    whole.graph.value_info.extend(part.graph.value_info)
    for value in part.graph.output:
        (whole.graph.output if value.name in outputs else whole.graph.value_info).append(value)


def renamed(model: ModelProto, names: Mapping[str, str]) -> ModelProto:
    """Return the model with other names for values. A node is named after its first output."""
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    for named in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        named.name = names.get(named.name, named.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.name = next(filter(None, node.output), "")
    return made


def without_head(stage: ModelProto, features: Sequence[str]) -> ModelProto:
    """Return a stage without its head, with only the nodes that its features need.

    Raises:
        CutError: The graph has control flow, or a feature is an input.
    """
    (trunk,) = cut(stage, [features])
    return trunk


class _Graph:
    """A graph's nodes by number, with the node that makes each value."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.weights = {tensor.name for tensor in model.graph.initializer}
        self.maker = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        self.light: set[int] = set()
        self.repeated: set[int] = set()
        for i, node in enumerate(self.nodes):
            if any(a.type in _CONTROL_FLOW for a in node.attribute):
                raise CutError(f"node {node.name!r} is control flow")
            if node.op_type in _SHAPES or self._reads_light_alone(node):
                self.light.add(i)
            if i in self.light or node.op_type in _EXPANDING:
                self.repeated.add(i)

    def _reads_light_alone(self, node: NodeProto) -> bool:
        return all(
            name in self.weights or self.maker.get(name) in self.light
            for name in node.input
            if name
        )

    def needed(self, outputs: Iterable[str], known: set[int]) -> set[int]:
        """Return the nodes that these outputs need, without the known ones."""
        found: set[int] = set()
        open_nodes = [self.maker[name] for name in outputs if name in self.maker]
        while open_nodes:
            i = open_nodes.pop()
            if i not in found and i not in known:
                found.add(i)
                open_nodes += [self.maker[n] for n in self.nodes[i].input if n in self.maker]
        return found

    def made(self, part: Iterable[int]) -> list[str]:
        """Return the values that these nodes make."""
        return [name for i in part for name in self.nodes[i].output if name]

    def read(self, part: Sequence[int]) -> list[str]:
        """Return the values that these nodes read and do not make, in order of first use.

        Weights are excluded.
        """
        known = self.weights.union(self.made(part), [""])
        return list(dict.fromkeys(n for i in part for n in self.nodes[i].input if n not in known))


def cut(model: ModelProto, exits: Sequence[Sequence[str]]) -> list[ModelProto]:
    """Cut a graph into one graph for each exit, to be run in this order.

    A node is in the graph of the first exit that needs it. Nodes that no exit needs are dropped.
    Nodes that depend on no image (constants, shapes), and nodes that only widen a quantised
    tensor, are in every graph that reads them.

    Args:
        model: Graph with nodes in order of execution, without control flow.
        exits: Output names of each exit.

    Returns:
        Graphs with the outputs that later graphs read (the features), then those of the exit.

    Raises:
        CutError: The graph has control flow, or an exit has no nodes of its own.
    """
    graph = _Graph(model)
    parts = _parts(graph, exits)
    reads = [graph.read(part) for part in parts]
    stages = []
    for k, (part, outputs) in enumerate(zip(parts, exits, strict=True)):
        made = graph.made(i for i in part if i not in graph.repeated)
        if not set(outputs) <= set(made):
            raise CutError(f"exit {k + 1} has no nodes of its own")
        later = {name for read in reads[k + 1 :] for name in read}
        features = [name for name in made if name in later and name not in outputs]
        stages.append(_part(model, part, reads[k], [*features, *outputs]))
    return stages


def _parts(graph: _Graph, exits: Sequence[Sequence[str]]) -> list[list[int]]:
    """Return the nodes of each exit, in order."""
    parts: list[list[int]] = []
    known: set[int] = set()
    for outputs in exits:
        own = graph.needed(outputs, known)
        known |= own - graph.repeated
        parts.append(sorted(own))
    return parts


def _part(
    model: ModelProto, part: Sequence[int], inputs: Sequence[str], outputs: Sequence[str]
) -> ModelProto:
    graph, made = model.graph, _without_graph(model)
    made.graph.name = "stage"
    made.graph.node.extend(graph.node[i] for i in part)
    named = {name for node in made.graph.node for name in (*node.input, *node.output)}
    made.graph.initializer.extend(t for t in graph.initializer if t.name in named)
    values = {v.name: v for v in (*graph.value_info, *graph.input, *graph.output)}
    made.graph.input.extend(values.get(name, ValueInfoProto(name=name)) for name in inputs)
    made.graph.output.extend(values.get(name, ValueInfoProto(name=name)) for name in outputs)
    inner = named - set(inputs) - set(outputs)
    made.graph.value_info.extend(v for v in graph.value_info if v.name in inner)
    return made
