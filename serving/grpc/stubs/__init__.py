"""Messages of the protocol. `make grpc-stubs` generates them from `open_inference.proto`."""
