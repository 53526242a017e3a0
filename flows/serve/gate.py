"""The gate in front of both servers: whose request is let in, and what their pages may load.

Neither server knows one page from another: Prefect parses a body without a Content-Type, which a
page of any site can send without asking, and MLflow takes every page of this machine for its own.
So each request is judged before they see it, HTTP and WebSocket alike:

- ``Host`` is one of the server's names, else a site whose name leads here would be let in.
- ``Origin``, which browsers send with whatever changes something and with each WebSocket, is the
  address under which the server itself was called. Programs send none.
- ``Sec-Fetch-Site``, where a browser says it, is not another site or port; links to a page are.
- What changes something says ``application/json``, where the server reads nothing else.

What is let in is the operator's own page, and every program that reaches the port.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_CHANGES = ("POST", "PUT", "PATCH", "DELETE")
_OPEN = ("/health", "/api/health")
"""What programs ask before they know anything: it answers without the authentication string."""
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src {scripts}; worker-src 'self' blob:; "
    "frame-src 'self' blob: data:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
OWN_SCRIPTS = "'self' 'unsafe-eval'"
"""Of Prefect's page: its own files, and what they compile to draw a run's graph."""
INLINE_SCRIPTS = "'self' 'unsafe-inline' 'unsafe-eval' blob:"
"""Of MLflow's page: it shows a sweep's report, whose figures are drawn by scripts inside it."""


class Gate:
    """An ASGI application that lets through to another what may come in.

    Args:
        app: the server.
        names: by which names browsers may call it, without a port.
        scripts: the sources of scripts that its pages may run, as in a Content-Security-Policy.
        json_only: refuse a body that does not say it is JSON.
        auth: ``USER:PASSWORD`` that each request must bring; empty: none is asked for.
        closed: where paths begin that nobody may call.
    """

    def __init__(
        self,
        app: App,
        names: Sequence[str],
        *,
        scripts: str = OWN_SCRIPTS,
        json_only: bool = True,
        auth: str = "",
        closed: tuple[str, ...] = (),
    ) -> None:
        self.app, self.closed = app, closed
        self.names = {name.strip().lower() for name in names}  # as browsers write them
        self.json_only, self.auth = json_only, auth
        self._headers = [
            (b"content-security-policy", _POLICY.format(scripts=scripts).encode()),
            (b"referrer-policy", b"same-origin"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):  # lifespan
            await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        status, reason = self._judge(scope, headers)
        if not status:
            await self.app(scope, receive, self._guarded(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            await self._refuse(send, status, reason)

    def _judge(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str]:
        """(HTTP status, reason) of a refusal; (0, "") lets the request in."""
        if _name(headers.get("host", "")) not in self.names:
            return 403, "this server is not called that; --allow-host or SECATEUR_HOSTS adds a name"
        method = scope.get("method", "WEBSOCKET")
        if _foreign(method, headers):
            return 403, "a page of another address may not call this server"
        if scope["path"].startswith(self.closed):
            return 403, "secateur keeps this part of the server closed"
        sent = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if self.json_only and method in _CHANGES and sent and kind != "application/json":
            return 415, "the Content-Type of a body must be application/json"
        asked = basic(self.auth) if self.auth and scope["path"] not in _OPEN else ""
        given = headers.get("authorization", "")
        if asked and not hmac.compare_digest(given.encode(), asked.encode()):
            return 401, "this server asks for its authentication string"
        return 0, ""

    def _guarded(self, send: Send) -> Send:
        """Send with the headers that keep a page to itself, in place of the server's own."""
        own = {name for name, _ in self._headers}

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept: Iterable[tuple[bytes, bytes]] = message.get("headers", [])
                kept = [entry for entry in kept if entry[0].lower() not in own]
                message = {**message, "headers": [*kept, *self._headers]}
            await send(message)

        return guarded

    async def _refuse(self, send: Send, status: int, reason: str) -> None:
        headers = [(b"content-type", b"text/plain; charset=utf-8"), *self._headers]
        if status == 401:
            headers.append((b"www-authenticate", b'Basic realm="secateur", charset="UTF-8"'))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": reason.encode()})


def basic(auth: str) -> str:
    """The Authorization header that brings ``USER:PASSWORD``."""
    return f"Basic {base64.b64encode(auth.encode()).decode()}"


def _name(host: str) -> str:
    """``name`` of ``name:port``; an IPv6 address keeps its brackets."""
    name = host.rpartition("]")[0] + "]" if "]" in host else host.partition(":")[0]
    return name.lower()


def _foreign(method: str, headers: dict[str, str]) -> bool:
    """Whether a page that is not the server's own asks, as far as a browser says."""
    # A forwarded port is not this server's, so it is compared with what the browser called.
    if "origin" in headers and urlsplit(headers["origin"]).netloc != headers["host"]:
        return True
    if headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none"):
        return False
    # Somebody followed a link, from MLflow's page or a mail: nobody but they see the answer.
    followed = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return method not in ("GET", "HEAD") or followed != ("navigate", "document")
