"""Install into this interpreter's environment with uv, as pip would have: from the same indexes.

    python requirements/install.py ARGUMENTS OF `pip install`

uv is fetched by pip, at the version of constraints.txt. It does not read pip's settings, so what
they say about mirrors, folders of wheels, constraints, certificates and proxies is handed on.
Settings of uv's own (``UV_…``) win. Only the standard library is there when this runs.
"""

from __future__ import annotations

import ast
import os
import shlex
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

CONSTRAINTS = Path(__file__).with_name("constraints.txt")
_NAMES = {  # pip's setting: uv's variable, what joins several values
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
    "proxy": ("ALL_PROXY", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "keyring-provider": ("UV_KEYRING_PROVIDER", " "),
}
_SECTIONS = ("global", "install", ":env:")  # the later wins, as in pip


def pip_settings(listing: str) -> dict[str, str]:
    """What ``pip config list`` printed, as pip's install command understands it."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.partition(".")
        if section in found:
            found[section][name] = ast.literal_eval(value)
    return {name: value for section in _SECTIONS for name, value in found[section].items()}


def uv_environment(settings: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The variables by which uv finds what pip would find.

    Args:
        settings: pip's.
        given: the environment of the call, whose variables stay as they are.
    """
    wanted = {
        # As pip does. Else each process compiles for itself where PYTHONDONTWRITEBYTECODE is set.
        "UV_COMPILE_BYTECODE": "true",
        # As pip does: the best version of all indexes, not of the first that has the package.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        **{
            variable: joint.join(settings[name].split())
            for name, (variable, joint) in _NAMES.items()
            if settings.get(name)
        },
    }
    if "SSL_CERT_FILE" not in wanted:  # pip heeds these two, and else the system's certificates
        if bundle := given.get("REQUESTS_CA_BUNDLE") or given.get("CURL_CA_BUNDLE"):
            wanted["SSL_CERT_FILE"] = bundle
        elif _system_has_certificates():
            wanted["UV_SYSTEM_CERTS"] = "true"
    return {name: value for name, value in wanted.items() if name not in given}


def uv_options(settings: Mapping[str, str]) -> list[str]:
    """What uv would not add to the options of its command line from a variable."""
    files = [str(CONSTRAINTS), *settings.get("constraint", "").split()]
    options = [option for file in files for option in ("--constraint", file)]
    alone = settings.get("no-index", "").lower() in ("1", "true", "yes", "on")
    return [*options, "--no-index"] if alone else options


def _system_has_certificates() -> bool:
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile) or bool(paths.capath and any(Path(paths.capath).iterdir()))


def _show(command: list[str], environment: Mapping[str, str] | None = None) -> None:
    sys.stdout.write(f"{shlex.join(command)}\n")
    sys.stdout.flush()
    if status := subprocess.run(command, env=environment, check=False).returncode:
        sys.exit(status)


def main(arguments: list[str]) -> None:
    python = sys.executable
    _show([python, "-m", "pip", "install", "--constraint", str(CONSTRAINTS), "uv"])
    listing = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    settings = pip_settings(listing.stdout)
    environment = {**os.environ, **uv_environment(settings, os.environ)}
    uv = [python, "-m", "uv", "pip", "install", "--python", python]
    _show([*uv, *uv_options(settings), *arguments], environment)


if __name__ == "__main__":
    main(sys.argv[1:])
