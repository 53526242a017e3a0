"""requirements/install.py: uv finds what pip would find."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "requirements" / "install.py"
LISTING = """\
:env:.find-links='/wheels more'
:env:.index-url='https://env/simple'
freeze.timeout='10'
global.cert='/etc/ca.pem'
global.constraint='/etc/a.txt\\n/etc/b.txt'
global.extra-index-url='https://one/simple\\nfile:///two/simple'
global.index-url='https://global/simple'
global.timeout='60'
global.trusted-host='one two'
install.index-url='https://install/simple'
install.timeout='90'
"""


@pytest.fixture(scope="module")
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_pip_was_told_uv_is_told(install: ModuleType) -> None:
    settings = install.pip_settings(LISTING)
    assert install.uv_environment(settings, {}) == {
        "UV_COMPILE_BYTECODE": "true",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_DEFAULT_INDEX": "https://env/simple",
        "UV_INDEX": "https://one/simple file:///two/simple",
        "UV_FIND_LINKS": "/wheels,more",
        "UV_INSECURE_HOST": "one two",
        "UV_HTTP_TIMEOUT": "90",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }
    options = ["--constraint", str(install.CONSTRAINTS)]
    options += ["--constraint", "/etc/a.txt", "--constraint", "/etc/b.txt"]
    assert install.uv_options(settings) == options
    assert install.uv_options(settings | {"no-index": "True"}) == [*options, "--no-index"]


def test_what_uv_was_told_itself_holds(install: ModuleType) -> None:
    given = {"UV_DEFAULT_INDEX": "https://mine/simple", "SSL_CERT_FILE": "/mine.pem"}
    found = install.uv_environment(install.pip_settings(LISTING), given)
    assert found.keys().isdisjoint(given)
    assert found["UV_INDEX"] == "https://one/simple file:///two/simple"


def test_certificates_as_pip_finds_them(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = install.uv_environment({}, {"REQUESTS_CA_BUNDLE": "/b.pem", "CURL_CA_BUNDLE": "/c.pem"})
    assert found["SSL_CERT_FILE"] == "/b.pem"
    for known in (True, False):
        monkeypatch.setattr(install, "_system_has_certificates", lambda known=known: known)
        assert ("UV_SYSTEM_CERTS" in install.uv_environment({}, {})) is known


def test_pips_own_listing_is_understood(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a settings file with several values, and of the environment, which wins."""
    settings = tmp_path / "pip.conf"
    settings.write_text(
        "[global]\ntimeout = 60\nextra-index-url =\n    https://one/simple\n    https://o'two/x\n"
        "[install]\nfind-links = /in/install\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_TIMEOUT", "75")
    for name in ("PIP_FIND_LINKS", "PIP_DEFAULT_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    command = [sys.executable, "-m", "pip", "config", "list"]
    if subprocess.run([*command[:3], "--version"], capture_output=True, check=False).returncode:
        pytest.skip("this environment has no pip (make setup makes one that has)")
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = install.pip_settings(listing)
    assert found["timeout"] == "75"
    assert found["find-links"] == "/in/install"
    assert found["extra-index-url"].split()[-2:] == ["https://one/simple", "https://o'two/x"]
    assert install.uv_environment(found, {})["UV_HTTP_TIMEOUT"] == "75"
