"""HTTP/2 (RFC 9113) as far as gRPC needs it, on the event loop, within bounds.

- `frames`: frames as bytes, and errors of a connection.
- `huffman`, `hpack`: the compressed headers of requests (RFC 7541), and headers of responses.
- `requests`: a call from its headers.
- `streams`: a call and its message while it arrives.
- `reading`: frames from bytes, and the bounds of a connection.
- `writing`: responses within the windows of flow control.
- `connection`: what a frame does.
"""
