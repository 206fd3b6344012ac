"""The graphs of stages: read and changed, run as a chain, timed, and their temperatures fitted.

- `graph`: nodes, inputs, features, flops, parameters and temperature of a graph.
- `runner`: a chain of graphs, run by ONNX Runtime.
- `times`: compute time of each stage on this machine.
- `temperatures`: the temperature of each exit.
"""
