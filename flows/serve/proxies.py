"""Proxies of the environment never stand between secateur and servers on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from importlib.util import find_spec

from flows.serve.settings import LOOPBACK

_SOCKS = ("socks4://", "socks4a://", "socks5://", "socks5h://")
_log = logging.getLogger("secateur.proxies")


def reach_directly(names: Iterable[str] = LOOPBACK) -> None:
    """Set this process's environment, and its children's, so that ``names`` need no proxy.

    A SOCKS proxy that no library here speaks is taken out: Prefect's client would refuse to start
    because of it, whatever NO_PROXY says.
    """
    for name in ("NO_PROXY", "no_proxy"):
        known = [entry for entry in os.environ.get(name, "").split(",") if entry]
        os.environ[name] = ",".join(dict.fromkeys([*known, *names]))
    if find_spec("socksio"):
        return
    variables = [n for n, v in os.environ.items() if n.lower().endswith("_proxy")
                 and v.lower().startswith(_SOCKS)]  # fmt: skip
    for name in variables:
        del os.environ[name]
    if variables:
        _log.warning(
            "%s: a SOCKS proxy needs the package socksio, which is not installed; nothing goes "
            "through it. To use it: pip install socksio", " and ".join(sorted(variables))
        )  # fmt: skip
