"""Calls of gRPC over HTTP/2, which the library h2 speaks, on the event loop and within bounds.

- `library`: h2 with our settings.
- `reading`: the bounds of a connection that hold before h2 reads a frame.
- `requests`: a call from its headers.
- `streams`: a call and its message while it arrives.
- `writing`: responses within the windows of flow control.
- `answering`: calls from their beginning to their end.
- `connection`: what an event of h2 does.
"""
