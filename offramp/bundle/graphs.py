"""Stage graphs joined into one graph, and a graph cut into stages where each exit needs it.

    whole = join(stages)                 every exit is an output of it
    stages = cut(whole, exit_outputs(n)) each node belongs to the first exit that needs it

So cut, what only deeper exits need is left to them (lazy evaluation, MSDNet, ICLR 2018,
section 4), and a stage may read features of any stage before it. Pure: from graphs to graphs,
of whatever operators, which are never looked into.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from onnx import AttributeProto, ModelProto, NodeProto, ValueInfoProto

from offramp.bundle.errors import CutError

EXIT_OUTPUTS = ("probabilities", "confidence")
# What they give depends on no value in the batch, and must not be kept for each image.
_SHAPES = ("Shape", "Size")
# Quicker done again than handed on: what it gives takes four times the room.
_EXPANDING = ("DequantizeLinear",)
_CONTROL_FLOW = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def exit_outputs(exits: int) -> list[tuple[str, ...]]:
    """The outputs of each exit of a graph that `join` made of so many stages."""
    return [tuple(f"{name}_{k}" for name in EXIT_OUTPUTS) for k in range(1, exits + 1)]


def join(stages: Sequence[ModelProto]) -> ModelProto:
    """One graph of a chain of stages, each of which reads what those before it gave.

    The inputs of the first keep their names. Every other name of stage k gets the prefix `k/`,
    but the exit's outputs, which become `probabilities_k` and `confidence_k`.

    Raises:
        CutError: a stage reads what no stage before it gave, or they differ in operator sets.
    """
    whole = ModelProto()
    whole.CopyFrom(stages[0])
    whole.graph.Clear()
    whole.graph.name = "whole"
    given = {value.name: value.name for value in stages[0].graph.input}
    whole.graph.input.extend(stages[0].graph.input)
    for k, (stage, outputs) in enumerate(zip(stages, exit_outputs(len(stages)), strict=True), 1):
        if list(stage.opset_import) != list(stages[0].opset_import):
            raise CutError(f"stage {k} has other operator sets than stage 1")
        if unknown := {value.name for value in stage.graph.input} - given.keys():
            raise CutError(f"stage {k} reads {', '.join(sorted(unknown))}, which no stage gave")
        names = {value.name: given[value.name] for value in stage.graph.input}
        names |= dict(zip(EXIT_OUTPUTS, outputs, strict=True))
        made = {name: f"{k}/{name}" for name in _names(stage) if name not in names}
        part = renamed(stage, names | made)
        given |= made
        _append(whole, part, outputs)
    return whole


def _names(model: ModelProto) -> Iterator[str]:
    """Every name that the graph gives a value."""
    yield from (tensor.name for tensor in model.graph.initializer)
    yield from (name for node in model.graph.node for name in node.output if name)


def _append(whole: ModelProto, part: ModelProto, outputs: Sequence[str]) -> None:
    whole.graph.node.extend(part.graph.node)
    whole.graph.initializer.extend(part.graph.initializer)
    whole.graph.value_info.extend(part.graph.value_info)
    for value in part.graph.output:
        (whole.graph.output if value.name in outputs else whole.graph.value_info).append(value)


def renamed(model: ModelProto, names: Mapping[str, str]) -> ModelProto:
    """The model with other names for values; nodes are called as their first output."""
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
    """A stage without its head: what its features need.

    Raises:
        CutError: there is control flow, or a feature is an input.
    """
    (trunk,) = cut(stage, [features])
    return trunk


class _Graph:
    """A graph's nodes by number, and who makes what."""

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
        """The nodes that these outputs need, but for those that are known."""
        found: set[int] = set()
        asked = [self.maker[name] for name in outputs if name in self.maker]
        while asked:
            i = asked.pop()
            if i not in found and i not in known:
                found.add(i)
                asked += [self.maker[n] for n in self.nodes[i].input if n in self.maker]
        return found

    def made(self, part: Iterable[int]) -> list[str]:
        """What these nodes give."""
        return [name for i in part for name in self.nodes[i].output if name]

    def read(self, part: Sequence[int]) -> list[str]:
        """What these nodes read and do not give, without weights, in order of first use."""
        known = self.weights.union(self.made(part), [""])
        return list(dict.fromkeys(n for i in part for n in self.nodes[i].input if n not in known))


def cut(model: ModelProto, exits: Sequence[Sequence[str]]) -> list[ModelProto]:
    """A graph for each exit, to be run in a row: each node in that of the first that needs it.

    Nodes that no exit needs are left out; those that depend on no image (constants, shapes), and
    those that only make a quantised tensor wider, are in every graph that reads them.

    Args:
        model: nodes in order, without control flow.
        exits: the outputs of each.

    Returns:
        Graphs whose outputs are what later ones read, the features, and then the exit's own.

    Raises:
        CutError: there is control flow, or an exit that nothing is computed for.
    """
    graph = _Graph(model)
    parts = _parts(graph, exits)
    reads = [graph.read(part) for part in parts]
    stages = []
    for k, (part, outputs) in enumerate(zip(parts, exits, strict=True)):
        made = graph.made(i for i in part if i not in graph.repeated)
        if not set(outputs) <= set(made):
            raise CutError(f"exit {k + 1} computes nothing of its own")
        later = {name for read in reads[k + 1 :] for name in read}
        features = [name for name in made if name in later and name not in outputs]
        stages.append(_part(model, part, reads[k], [*features, *outputs]))
    return stages


def _parts(graph: _Graph, exits: Sequence[Sequence[str]]) -> list[list[int]]:
    """The nodes of each exit, in order."""
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
    graph, made = model.graph, ModelProto()
    made.CopyFrom(model)
    made.graph.Clear()
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
