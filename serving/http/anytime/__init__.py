"""The anytime stream: the answer of each exit as server-sent events, as soon as it is known.

- `events`: the events, and the requests that ask for them.
- `openapi`: the description of a stream for the API.
- `stream`: a response of events, which ends with the answer or with a problem.
"""
