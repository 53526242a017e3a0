"""The Hugging Face hub's client: offline or not, and what its exceptions mean to a user."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from configs.errors import ConfigurationError
from tasks.models.errors import SourceUnavailableError

COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT_SECONDS = 30.0
NOT_CACHED = "HF_HUB_OFFLINE is set and the local cache does not hold it"
OFFLINE_HINT = "Unset HF_HUB_OFFLINE, or name a local folder"

_TRANSIENT_STATUS = {408, 425, 429}


def offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids the network."""
    from huggingface_hub import is_offline_mode

    return is_offline_mode()


_TAKEN_AWAY = (
    "client has been closed",
    "'NoneType' object has no attribute 'request'",
    "'NoneType' object has no attribute 'stream'",
)


@contextmanager
def explained(*, field: str, given: str) -> Iterator[None]:
    """Turn the hub client's exceptions into this project's two: fix it, or try again later.

    Raises:
        ConfigurationError: unknown, restricted, or offline.
        SourceUnavailableError: no connection, or the hub has trouble.
    """
    from huggingface_hub import errors

    # The client's base class of connection and status errors, whichever HTTP library it uses.
    http_error: type[BaseException] = errors.HfHubHTTPError.__bases__[0]
    try:
        yield
    except errors.GatedRepoError as error:
        hint = "Ask for access on its page and log in (hf auth login)"
        raise ConfigurationError(field, given, "access to it is restricted", hint) from error
    except errors.RepositoryNotFoundError as error:
        hint = "If it is private, log in (hf auth login)"
        allowed = "the hub has nothing of that name, and there is no such folder or file"
        raise ConfigurationError(field, given, allowed, hint) from error
    except errors.RevisionNotFoundError as error:
        raise ConfigurationError(field, given, "the hub has it, but no such revision") from error
    except errors.HFValidationError as error:
        raise ConfigurationError(field, given, f"this is no hub id: {error}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status < 500 and status not in _TRANSIENT_STATUS:
            raise ConfigurationError(field, given, f"the hub refuses it: {error}") from error
        raise SourceUnavailableError(given, f"the hub answers with status {status}") from error
    except (RuntimeError, AttributeError) as error:
        # A thread of its download that lost the connection closes the client that others use, or
        # takes it from those that have just asked for it (huggingface_hub 2.4).
        if not any(words in str(error) for words in _TAKEN_AWAY):
            raise
        raise SourceUnavailableError(given, "the connection was lost") from error
    except (errors.LocalEntryNotFoundError, http_error, ConnectionError, TimeoutError) as error:
        if offline():
            raise ConfigurationError(field, given, NOT_CACHED, OFFLINE_HINT) from error
        raise SourceUnavailableError(given, str(error) or type(error).__name__) from error
