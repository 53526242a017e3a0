"""No secret of an address is ever told."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.runtime.links import redacted

SECRET = st.text(string.ascii_letters + string.digits + "%._~!*+-", min_size=12, max_size=24)
FORMS = [
    "https://user:{}@host:5000/path",
    "https://{}@host/",
    "postgresql://host/mlflow?user=me&password={}",
    "postgresql+psycopg://u:{}@host/db?sslmode=require",
    "mysql://host/db?ssl_key=a&passwd={}&x=1",
    "https://host/api?access_token={}",
    "https://host/api?x=1;apiKey={}",
    "no answer from https://host/?AWS_SECRET_ACCESS_KEY={} in 3 s, nor from https://a:{}@b",
]


@pytest.mark.parametrize("form", FORMS)
@given(secret=SECRET)
def test_no_form_of_address_tells_its_secret(form: str, secret: str) -> None:
    told = redacted(form.replace("{}", secret))
    assert secret not in told
    assert "host" in told


def test_the_rest_of_an_address_stays() -> None:
    assert redacted("sqlite:////home/me/a.db?timeout=5") == "sqlite:////home/me/a.db?timeout=5"
    assert redacted("https://u:p@h/x?a=1&password=p&b=2") == "https://h/x?a=1&password=…&b=2"
