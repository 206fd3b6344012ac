"""The Open Inference Protocol v2 over gRPC, on a port of its own.

`serving.http.oip` has the meaning of the protocol. Needs the extra `grpc`.

- `stubs/`: the protocol's messages, generated from `open_inference.proto`.
- `wire`: bounds of a message before it is parsed, and its tensors as views.
- `messages`: messages as requests, and answers as messages.
- `errors`: errors as statuses.
- `calls`: the deadline, key and span of a call.
- `inference`: the method `ModelInfer`.
- `service`: all methods.
- `server`: the port, its limits, start and stop.
"""
