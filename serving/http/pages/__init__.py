"""Pages for people: the playground at `/`, the API reference at `/docs`, and their files.

- `web/`: HTML, style and scripts, as the browser gets them. There is no build step.
- `models/`: the page of models and versions, at `/pages/models.html`.
- `static`: responses with validators and a strict content security policy.
- `reference`: the API reference, written from the OpenAPI document.
- `routes`: the paths.
"""
