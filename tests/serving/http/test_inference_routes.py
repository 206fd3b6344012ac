from __future__ import annotations

import pytest

from serving.http.inference_routes import route_of


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/classify", "/classify"),
        ("/classify/pixels", "/classify/pixels"),
        ("/models/cats/classify", "/models/{name}/classify"),
        ("/models/cats/classify/pixels", "/models/{name}/classify/pixels"),
        ("/v2/models/cats/infer", "/v2/models/{name}/infer"),
        ("/v2/models/cats/versions/3/infer", "/v2/models/{name}/versions/{version}/infer"),
        ("/anything/classify", None),
        ("/classify/", None),
        ("/models/a/b/classify", None),
        ("/v2/models//infer", None),
        ("/v2/infer", None),
        ("/model", None),
    ],
)
def test_only_inferences_have_a_route(path: str, route: str | None) -> None:
    assert route_of(path) == route
