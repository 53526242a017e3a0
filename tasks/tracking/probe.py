"""Whether a tracking server answers, told within a fixed time."""

from __future__ import annotations

import socket
import ssl
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from tasks.tracking.addresses import DATABASES, scheme
from tasks.tracking.outages import TrackingUnavailableError


def probe(uri: str, timeout_seconds: float) -> None:
    """Returns when the server gives a sign of life, raises when the time is up.

    MLflow's own attempts last minutes. The attempt has a thread of its own, since neither looking
    up a name nor a server that sends a byte now and then heeds a socket's timeout.
    """
    kind, parts = scheme(uri), urlsplit(uri)
    web = kind in ("http", "https")
    if not web and not (kind in DATABASES and parts.hostname):
        return
    failures: list[str] = []

    def attempt() -> None:
        try:
            if web:
                address = f"{uri.rstrip('/')}/health"
                urllib.request.urlopen(address, timeout=timeout_seconds).close()  # noqa: S310
            else:
                address = (str(parts.hostname), parts.port or DATABASES[kind])
                socket.create_connection(address, timeout_seconds).close()
        except urllib.error.HTTPError as error:  # any answer below 500 is a sign of life
            if error.code >= 500:
                failures.append(f"it answers {error.code}")
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the reason)
            reason = getattr(error, "reason", error)
            if not isinstance(reason, ssl.SSLError):  # MLflow may know the certificate
                failures.append(str(reason) or type(reason).__name__)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    if thread.is_alive():
        raise TrackingUnavailableError(uri, f"no answer within {timeout_seconds:g} s")
    if failures:
        raise TrackingUnavailableError(uri, failures[0])
