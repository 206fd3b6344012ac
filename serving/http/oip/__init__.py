"""The Open Inference Protocol v2 over HTTP, and its meaning, which gRPC shares.

- `protocol`: names, datatypes, records, and the requested outputs.
- `inputs`: the input, as files or pixels.
- `parameters`: parameters of a request as a query and a deadline.
- `templates`: the part that many requests of a client have in common.
- `answers`: answers as tensors.
- `descriptions`: metadata, configuration and statistics.
- `requests`, `responses`: JSON with or without binary tensors.
- `infer`, `fast_path`, `routes`: the endpoints.
- `errors`: errors in the protocol's form.

Specification: https://github.com/kserve/open-inference-protocol, and for binary tensors,
classification, configuration, statistics and the index the extensions of Triton:
https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""
