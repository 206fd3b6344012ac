"""The networks of a cascade, as they were given and as stages of its bundle.

- `network`: an ONNX file with a classifier, its input and its labels.
- `batch`: a file for a fixed batch, made to take any.
- `original`: a network as it was given, run to compare its stage with it.
- `reduction`: reduction of the image inside a graph.
- `stage`: a network as a stage.
- `bundles`: the stages of a bundle as stages.
"""
