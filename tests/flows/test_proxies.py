"""What a shell's proxy settings leave of the way to this machine's own servers."""

from __future__ import annotations

import os

import httpx
import pytest

from flows.serve import proxies


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy but those that a test sets, and all as it was afterwards."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]


def test_our_servers_are_added_to_those_without_a_proxy() -> None:
    os.environ["no_proxy"] = "example.org"
    proxies.reach_directly(["127.0.0.1", "localhost"])
    assert os.environ["no_proxy"] == "example.org,127.0.0.1,localhost"
    assert os.environ["NO_PROXY"] == "127.0.0.1,localhost"


@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy"])
def test_a_socks_proxy_that_nothing_here_speaks_is_taken_out_and_told(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(proxies, "find_spec", lambda module: None)
    os.environ |= {name: "socks5://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    proxies.reach_directly()
    assert name not in os.environ
    assert os.environ["HTTP_PROXY"] == "http://127.0.0.1:9"
    assert name in caplog.text
    assert "pip install socksio" in caplog.text
    httpx.Client().close()


def test_with_its_package_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "find_spec", lambda module: module)
    os.environ["ALL_PROXY"] = "socks5://127.0.0.1:9"
    proxies.reach_directly()
    assert os.environ["ALL_PROXY"] == "socks5://127.0.0.1:9"
