"""What a page asks of a busy server is asked again; what it says in the end stands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from flows.serve.patience import Patient

SUBMIT = "/api/deployments/1/create_flow_run"
PAGE = {"Origin": "http://127.0.0.1:4200"}


class BusyError(Exception):
    """As SQLite's, where two write at once."""


class Server:
    """Busy for so many requests, then it says what it was sent.

    As Prefect's does it: an error on the way becomes a 503, and Starlette raises it once more after
    that answer.
    """

    def __init__(self, busy: int) -> None:
        self.busy, self.seen = busy, 0
        inside = Starlette(
            routes=[Route("/{path:path}", self.answer, methods=["POST"])],
            exception_handlers={Exception: self.refuse},
        )
        patient = Patient(inside, waits=[0.0, 0.0, 0.0])
        self.client = TestClient(patient, raise_server_exceptions=False)

    async def answer(self, request: Request) -> Response:
        self.seen += 1
        body = (await request.body()).decode()
        if self.seen <= self.busy:
            raise BusyError
        return JSONResponse({"sent": body, "attempt": self.seen}, 201)

    async def refuse(self, request: Request, error: Exception) -> Response:
        status = 503 if isinstance(error, BusyError) else 500
        return JSONResponse({"attempt": self.seen}, status)


@pytest.mark.parametrize("busy", [0, 1, 3])
def test_what_a_page_sends_is_sent_again_whole_until_the_server_takes_it(busy: int) -> None:
    answer = Server(busy).client.post(SUBMIT, content="x" * 300_000, headers=PAGE)
    assert answer.status_code == 201
    assert answer.json() == {"sent": "x" * 300_000, "attempt": busy + 1}


def test_a_server_that_stays_busy_says_so_in_the_end() -> None:
    server = Server(busy=100)
    answer = server.client.post(SUBMIT, headers=PAGE)
    assert answer.status_code == 503
    assert answer.json()["attempt"] == server.seen == 4


def test_what_fails_for_good_is_said_at_once() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    client = TestClient(Patient(broken, waits=[60.0]))
    with pytest.raises(ZeroDivisionError):
        client.post(SUBMIT, headers=PAGE)


def test_a_program_asks_again_by_itself() -> None:
    server = Server(busy=1)
    assert server.client.post(SUBMIT).status_code == 503
    assert server.seen == 1


def test_who_has_left_gets_nothing_done() -> None:
    """A page that was closed while the server was busy must not start a run later."""
    seen = 0

    async def busy(scope: Any, receive: Any, send: Any) -> None:
        nonlocal seen
        seen += 1
        await receive()
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    messages = iter([{"type": "http.request", "body": b""}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "path": SUBMIT, "headers": [(b"origin", b"http://127.0.0.1")]}
    asyncio.run(Patient(busy, waits=[60.0])(scope, receive, send))
    assert seen == 1
