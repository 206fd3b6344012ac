"""The Open Inference Protocol v2 over gRPC, on a port of its own.

`serving.http.oip` has the meaning of the protocol. Needs the extra `grpc`: protobuf for its
messages, and h2 for HTTP/2. gRPC's own Python server is not used, because a call in it costs more.

- `stubs/`: the protocol's messages, generated from `open_inference.proto`.
- `wire`: bounds of a message before it is parsed, and its tensors as views.
- `messages`: messages as requests, and answers as messages.
- `calls`: the records that methods and connections share.
- `errors`: errors as statuses.
- `inference`: the method that classifies.
- `service`: all methods.
- `http2/`: the connections.
- `server`: the port, its limits, start and stop.
"""
