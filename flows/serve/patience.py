"""What a page asks for and Prefect's server cannot do just now is asked again.

SQLite is written by one at a time. Where two requests write at once, Prefect undoes one of them and
answers 503. Its own client takes that for what it is and asks again after a while; its page does
not, and whoever pressed Submit saw nothing happen. Only pages are helped: a program that asks again
by itself would be held up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from flows.serve.gate import App, Message, Receive, Scope, Send

_BUSY = 503
_WAITS = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Seconds. A write lasts a few hundredths of one; beside busy workers about half of all attempts
meet another, so seven are made."""


@dataclass(frozen=True)
class Patient:
    """An ASGI application that repeats what a page asks of another while that is busy.

    Attributes:
        app: a server on SQLite, where a request that is answered with 503 has changed nothing.
        waits: seconds between the attempts; the last answer stands, whatever it is.
    """

    app: App
    waits: Sequence[float] = _WAITS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Browsers, and nobody else, say where a request comes from.
        if scope["type"] != "http" or b"origin" not in dict(scope["headers"]):
            await self.app(scope, receive, send)
            return
        body = await _whole(receive)
        if body is None:
            return
        for wait in self.waits:
            answer = _Answer(send)
            try:
                await self.app(dict(scope), _again(body, receive), answer)
            except Exception:
                # Starlette answers for an error and raises it once more, for the server's log.
                if not answer.busy:
                    raise
            if not answer.busy or await _left(receive, wait):
                return
        await self.app(dict(scope), _again(body, receive), send)


@dataclass
class _Answer:
    """Sends an answer on, but for one that says that the server is busy."""

    send: Send
    busy: bool = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.busy = message["status"] == _BUSY
        if not self.busy:
            await self.send(message)


async def _left(receive: Receive, wait: float) -> bool:
    """Wait; whether whoever asked is gone by then, and no longer wants an answer."""
    try:
        return (await asyncio.wait_for(receive(), wait))["type"] == "http.disconnect"
    except TimeoutError:
        return False


async def _whole(receive: Receive) -> bytes | None:
    """A request's body; None when whoever sent it is gone."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """What a server receives of a request whose body has been read."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return left.pop() if left else await receive()

    return received
