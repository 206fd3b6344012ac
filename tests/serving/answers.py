"""What tests read out of the server's answers."""


def labels(response):
    assert response.status_code == 200, response.text
    return [(answer["label"], answer["exit"]) for answer in response.json()["answers"]]


def problem(response, status, kind):
    """The detail of a problem, which has this status and type."""
    body = response.json()
    assert (response.status_code, body["type"]) == (status, f"/problems/{kind}"), body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["title"]
    return body["detail"]
