"""Send load to a server that classifies images, and record the responses.

- `outcomes`: plans of requests, and their outcomes.
- `sender`: a closed or an open loop of requests over raw HTTP/1.1.
- `connection`: one keep-alive connection.
- `answers`: the answers in responses.
- `process`: the sender in a process of its own.
- `targets`: the requests that a server takes, found out from the server.
- `bodies`: their bodies.
- `summary`: the numbers of a load.
"""
