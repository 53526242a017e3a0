"""How results are named, and what is said of a name that means none or several."""

from __future__ import annotations

import pytest

from configs.errors import ConfigurationError
from tasks.provenance.references import Axes, choose, parse

ROWS = [
    Axes("dense", None, None, "owner/one"),
    Axes("dense", None, None, "two"),
    *(
        Axes("wanda", target, seed, model)
        for model in ("owner/one", "two")
        for target in ("0.5", "2:4")
        for seed in ("0", "1")
    ),
]


@pytest.mark.parametrize(
    ("text", "sweep", "axes"),
    [
        ("mine:dense", "mine", Axes("dense", None, None, None)),
        ("mine:wanda@0.5", "mine", Axes("wanda", "0.5", None, None)),
        ("mine:wanda@2:4#1", "mine", Axes("wanda", "2:4", "1", None)),
        ("a/b:c/mine:wanda@2:4", "a/b:c/mine", Axes("wanda", "2:4", None, None)),
        (
            "mine:by-row@0.5#3,model=owner/one@main",
            "mine",
            Axes("by-row", "0.5", "3", "owner/one@main"),
        ),
        ("mine", "mine", None),
    ],
)
def test_a_cell_is_read_from_its_name(text: str, sweep: str, axes: Axes | None) -> None:
    reference = parse(text, "A")
    assert (reference.sweep, reference.axes, reference.run) == (sweep, axes, "")
    assert (reference.folder is not None) == ("/" in sweep)


def test_runs_and_reported_figures_have_forms_of_their_own() -> None:
    assert parse("0123456789abcdef" * 2, "A").run == "0123456789abcdef" * 2
    reported = parse("reported:paper-ast:ast@2:4", "B")
    assert reported.reported
    assert (reported.sweep, reported.axes) == ("paper-ast", Axes("ast", "2:4", None, None))


@pytest.mark.parametrize("text", ["", ":wanda", "mine:wanda@", "mine:wanda@half", "mine:a b"])
def test_what_has_no_form_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"B: .*SWEEP:METHOD@TARGET"):
        parse(text, "B")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("mine:wanda@0.5#1,model=owner/one", 3),
        ("mine:wanda@0.50#1,model=one", 3),
        ("mine:wanda@2:4#0,model=two", 8),
        ("mine:dense,model=two", 1),
    ],
)
def test_the_one_row_that_fits_is_chosen(text: str, place: int) -> None:
    assert choose(parse(text, "A"), ROWS, "the sweep mine") == place


def test_left_out_axes_do_where_there_is_one() -> None:
    assert choose(parse("mine:wanda", "A"), [ROWS[0], ROWS[2]], "the sweep mine") == 1
    assert choose(parse("mine", "A"), [ROWS[0]], "the sweep mine") == 0


def test_several_are_listed_as_they_can_be_written() -> None:
    with pytest.raises(ConfigurationError) as caught:
        choose(parse("mine:wanda@0.5,model=two", "A"), ROWS, "the sweep mine")
    message = str(caught.value)
    assert "2 that fit" in message
    for name in ("mine:wanda@0.5#0,model=two", "mine:wanda@0.5#1,model=two"):
        assert name in message
        assert choose(parse(name, "A"), ROWS, "the sweep mine") in (6, 7)
    assert "2:4" not in message


def test_none_lists_what_there_is() -> None:
    with pytest.raises(ConfigurationError, match=r"no such result.*mine:dense,model=one"):
        choose(parse("mine:sparsegpt@0.5", "A"), ROWS, "the sweep mine")


def test_models_of_the_same_short_name_are_written_whole() -> None:
    rows = [Axes("dense", None, None, "a/x"), Axes("dense", None, None, "b/x")]
    with pytest.raises(ConfigurationError, match=r"mine:dense,model=a/x, mine:dense,model=b/x"):
        choose(parse("mine:dense", "A"), rows, "the sweep mine")
