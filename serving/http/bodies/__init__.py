"""Read the images of a call from its body.

- `body`: bounds and reads a body, of any content type.
- `multipart`, `json_images`: several images in one body.
- `json_call`, `json_document`: other calls with a body in JSON, and the parser of all JSON.
- `openapi`: the schemas of bodies.
"""
