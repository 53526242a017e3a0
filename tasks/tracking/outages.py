"""What counts as an outage of the tracking server, and the lock that writers share."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from filelock import FileLock, Timeout

from tasks.runtime.links import redacted
from tasks.store.steps import PassingError
from tasks.tracking.addresses import DATABASES, scheme
from tasks.tracking.names import cut

LOCK_SECONDS = 300.0
P = ParamSpec("P")
R = TypeVar("R")


class _Connected(Protocol):
    uri: str


S = TypeVar("S", bound=_Connected)


class TrackingUnavailableError(PassingError):
    """The tracking server cannot be reached, does not answer, or answers with a server error.

    Args:
        uri: the tracking URI; credentials in it are dropped.
        reason: what happened, as a phrase.
    """

    def __init__(self, uri: str, reason: str) -> None:
        self.uri = redacted(uri)
        self.reason = redacted(reason)
        super().__init__(f"MLflow at {self.uri} is not available: {self.reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.uri, self.reason))


@contextlib.contextmanager
def outages_surfaced(uri: str) -> Iterator[None]:
    try:
        yield
    except TrackingUnavailableError:
        raise
    except Exception as error:
        if _is_outage(error, uri):
            raise TrackingUnavailableError(uri, cut(str(error), 400)) from error
        raise


def _is_outage(error: BaseException | None, uri: str) -> bool:
    """Whether the cause is a connection, a timeout or the server's own failure."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    failures = ["TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED"]  # a locked database is the first
    if scheme(uri) not in DATABASES:
        failures.append("INTERNAL_ERROR")  # without a server, MLflow's word for any other error
    if isinstance(error, MlflowException) and error.error_code in failures:
        return True
    lost = (requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError)
    while error is not None:
        if isinstance(error, (*lost, OperationalError)):
            return True
        if isinstance(error, requests.HTTPError) and error.response is not None:
            return error.response.status_code >= 500
        error = error.__cause__  # not the context, which is what the caller was handling
    return False


def surfacing(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], R]:
    """Turns an outage inside a method of what is connected into TrackingUnavailableError."""

    @functools.wraps(method)
    def surfaced(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with outages_surfaced(self.uri):
            return method(self, *args, **kwargs)

    return surfaced


@contextlib.contextmanager
def locked(home: Path, uri: str, name: str) -> Iterator[None]:
    path = home / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:  # around acquiring too: an interrupt may come as soon as it is held
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            reason = f"another process has held {path.name} for {LOCK_SECONDS:g} s"
            raise TrackingUnavailableError(uri, reason) from error
        yield
    finally:
        lock.release(force=True)  # which does nothing where it is not held
