"""Who is let in by the gate, with requests as browsers and programs send them."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from flows.serve.gate import INLINE_SCRIPTS, Gate
from flows.serve.settings import host_names

HOST = "127.0.0.1:4200"
OWN = f"http://{HOST}"
SOCKET = f"ws://{HOST}/api/events/in"
JSON = {"Content-Type": "application/json"}
FOLLOWED = {
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}
EVERY = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Server:
    """Behind the gate: it remembers what it was asked."""

    def __init__(self, **options: Any) -> None:
        self.seen: list[str] = []
        inside = Starlette(
            routes=[
                Route("/api/health", self.health, methods=EVERY),
                Route("/{path:path}", self.page, methods=EVERY),
                WebSocketRoute("/api/events/in", self.socket),
            ]
        )
        gate = Gate(inside, host_names("127.0.0.1", ["up.example"]), **options)
        self.client = TestClient(gate, base_url=OWN)

    async def health(self, _request: Request) -> PlainTextResponse:
        return PlainTextResponse("true")

    async def page(self, request: Request) -> HTMLResponse:
        self.seen.append(f"{request.method} {(await request.body()).decode()}")
        return HTMLResponse("page", headers={"X-Frame-Options": "SAMEORIGIN"})

    async def socket(self, socket: WebSocket) -> None:
        self.seen.append("socket")
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()


@pytest.fixture
def server() -> Server:
    return Server()


LET_IN: dict[str, tuple[str, dict[str, str], str]] = {
    "a program's POST": ("POST", JSON, "{}"),
    "a program's GET": ("GET", {}, ""),
    "the page's POST": ("POST", JSON | {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, "{}"),
    "the page's POST without a body": ("POST", {"Origin": OWN}, ""),
    "the page's DELETE": ("DELETE", {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, ""),
    "JSON with its encoding": ("PATCH", {"Content-Type": "application/json; charset=utf-8"}, "{}"),
    "an address that was typed": ("GET", {"Sec-Fetch-Site": "none"}, ""),
    "another of its names": (
        "POST",
        JSON | {"Host": "localhost:4200", "Origin": "http://localhost:4200"},
        "{}",
    ),
    "an added name": ("GET", {"Host": "up.example"}, ""),
    "IPv6": ("POST", JSON | {"Host": "[::1]:4200", "Origin": "http://[::1]:4200"}, "{}"),
    "a forwarded port": (
        "POST",
        JSON | {"Host": "localhost:8080", "Origin": "http://localhost:8080"},
        "{}",
    ),
    "a link from another page": (
        "GET",
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
        "",
    ),
}

REFUSED: dict[str, tuple[str, dict[str, str], str, int]] = {
    "a page of another site": ("POST", JSON | {"Origin": "http://evil.example"}, "{}", 403),
    "a page of another port": ("POST", JSON | {"Origin": "http://127.0.0.1:9000"}, "{}", 403),
    "a page without an origin": ("POST", JSON | {"Origin": "null"}, "{}", 403),
    "an origin that begins alike": ("POST", JSON | {"Origin": f"{OWN}.evil.example"}, "{}", 403),
    "an origin with a user": ("POST", JSON | {"Origin": f"http://x@{HOST}"}, "{}", 403),
    "another of its names, from elsewhere": (
        "POST",
        JSON | {"Origin": "http://localhost:4200"},
        "{}",
        403,
    ),
    "a foreign page's GET": ("GET", {"Origin": "http://evil.example"}, "", 403),
    "a preflight": (
        "OPTIONS",
        {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
        "",
        403,
    ),
    "another site, without an origin": ("GET", {"Sec-Fetch-Site": "cross-site"}, "", 403),
    "another port, without an origin": ("GET", {"Sec-Fetch-Site": "same-site"}, "", 403),
    "a form of another site": (
        "POST",
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
        "",
        403,
    ),
    "a frame of another site": (
        "GET",
        FOLLOWED | {"Sec-Fetch-Dest": "iframe"},
        "",
        403,
    ),
    "a body without a type": ("POST", {"Content-Type": ""}, "{}", 415),
    "a body of text": ("POST", {"Content-Type": "text/plain"}, "{}", 415),
    "a form": ("POST", {"Content-Type": "application/x-www-form-urlencoded"}, "a=b", 415),
    "a DELETE with a body of text": ("DELETE", {"Content-Type": "text/plain"}, "{}", 415),
    "a PATCH of text": ("PATCH", {"Content-Type": "text/plain; application/json"}, "{}", 415),
    "a name that leads here": ("GET", {"Host": "evil.example:4200"}, "", 403),
    "no name": ("GET", {"Host": ""}, "", 403),
}


@pytest.mark.parametrize("case", LET_IN)
def test_it_lets_in(case: str, server: Server) -> None:
    method, headers, body = LET_IN[case]
    answer = server.client.request(method, "/api/x", headers=headers, content=body)
    assert answer.status_code == 200, answer.text
    assert server.seen == [f"{method} {body}"]


@pytest.mark.parametrize("case", REFUSED)
def test_it_refuses(case: str, server: Server) -> None:
    method, headers, body, status = REFUSED[case]
    answer = server.client.request(method, "/api/x", headers=headers, content=body)
    assert answer.status_code == status
    assert server.seen == []
    assert "access-control-allow-origin" not in answer.headers


def test_a_streamed_body_without_a_type_is_refused(server: Server) -> None:
    answer = server.client.post("/api/x", content=iter([b"{}"]))
    assert answer.status_code == 415
    assert server.seen == []


SOCKETS: dict[str, tuple[dict[str, str], bool]] = {
    "a program": ({}, True),
    "the page": ({"Origin": OWN}, True),
    "a foreign page": ({"Origin": "http://evil.example"}, False),
    "a page of another port": ({"Origin": "http://127.0.0.1:9000"}, False),
    "a foreign page that says so": ({"Sec-Fetch-Site": "cross-site"}, False),
    "a name that leads here": ({"Host": "evil.example"}, False),
}


@pytest.mark.parametrize("case", SOCKETS)
def test_websockets_are_judged_alike(case: str, server: Server) -> None:
    headers, let_in = SOCKETS[case]
    if let_in:
        with server.client.websocket_connect(SOCKET, headers=headers) as socket:
            assert socket.receive_text() == "hello"
    else:
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            server.client.websocket_connect(SOCKET, headers=headers),
        ):
            pass
        assert refused.value.code == 1008
    assert server.seen == ["socket"] * let_in


def test_pages_load_nothing_from_outside_and_stand_in_no_frame(server: Server) -> None:
    answer = server.client.get("/")
    policy = dict(
        entry.strip().split(" ", 1)
        for entry in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'self'"
    assert "'unsafe-inline'" not in policy["script-src"]
    assert policy["frame-ancestors"] == "'none'"
    for sources in policy.values():
        assert "http" not in sources
        assert "*" not in sources
    assert answer.headers.get_list("x-frame-options") == ["DENY"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"


def test_mlflow_takes_other_bodies_and_shows_reports() -> None:
    server = Server(json_only=False, scripts=INLINE_SCRIPTS)
    answer = server.client.put("/artifact", content=b"x", headers={"Content-Type": "image/png"})
    assert answer.status_code == 200
    assert "script-src 'self' 'unsafe-inline'" in answer.headers["content-security-policy"]
    foreign = {"Origin": "http://127.0.0.1:9000"}
    assert server.client.put("/artifact", content=b"x", headers=foreign).status_code == 403


def test_the_authentication_string_is_asked_for_but_for_health() -> None:
    server = Server(auth="me:secret")
    for given in (None, ("me", "wrong"), ("me", ""), ("secret", "me")):
        answer = server.client.get("/", auth=given)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
    for header in ("Basic", "Basic !", "Bearer me:secret", "Basic bWU6c2VjcmV0eA=="):
        assert server.client.get("/", headers={"Authorization": header}).status_code == 401
    assert server.seen == []
    assert server.client.get("/", auth=("me", "secret")).status_code == 200
    assert server.client.get("/api/health").status_code == 200
    assert server.client.get("/api/health/x").status_code == 401
    foreign = {"Origin": "http://evil.example"}
    assert server.client.get("/", auth=("me", "secret"), headers=foreign).status_code == 403
