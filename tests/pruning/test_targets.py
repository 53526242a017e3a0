"""Reading and refusing targets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.pruning.core.targets import Fraction, SemiStructured, TargetError, parse_target


@pytest.mark.parametrize(
    "text", ["0", "1", "1.2", "-0.1", "4:2", "0:4", "2:4:8", "2:2", "", "half", "nan", "inf", "2:"]
)
def test_refuses_what_is_no_target(text: str) -> None:
    with pytest.raises(TargetError, match=r"from 0.0001 to 0.9999.*0 < keep < group"):
        parse_target(text)


@given(st.floats(1e-4, 1 - 1e-4))
def test_fractions_survive_writing_to_ten_digits(value: float) -> None:
    parsed = parse_target(str(Fraction(value)))
    assert parsed.sparsity == pytest.approx(value, rel=1e-9)


@given(st.integers(1, 100), st.integers(2, 1000))
def test_keep_group_survives_writing(keep: int, group: int) -> None:
    if keep >= group:
        return
    parsed = parse_target(f"{keep}:{group}")
    assert parsed == SemiStructured(keep, group)
    assert str(parsed) == f"{keep}:{group}"
    assert parsed.sparsity == pytest.approx((group - keep) / group)


def test_equal_targets_are_equal_however_they_are_written() -> None:
    assert str(parse_target("0.50")) == str(parse_target(0.5)) == "0.5"
