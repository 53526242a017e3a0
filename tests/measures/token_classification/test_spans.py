"""Spans and their score against conlleval's own way of counting, and cases made by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from tasks.measures.token_classification.scoring import Score
from tasks.measures.token_classification.spans import spans_of


@pytest.mark.parametrize(
    ("labels", "spans"),
    [
        ("O O", set()),
        ("B-A I-A O B-B", {(0, 2, "A"), (3, 4, "B")}),
        ("B-A B-A", {(0, 1, "A"), (1, 2, "A")}),
        # What begins with I- is a span all the same, and another type begins another.
        ("I-A I-A O I-A", {(0, 2, "A"), (3, 4, "A")}),
        ("B-A I-B I-B", {(0, 1, "A"), (1, 3, "B")}),
        ("I-A B-A", {(0, 1, "A"), (1, 2, "A")}),
        # BIOES, and BILOU for the same spans.
        ("B-A I-A E-A S-A", {(0, 3, "A"), (3, 4, "A")}),
        ("B-A I-A L-A U-A", {(0, 3, "A"), (3, 4, "A")}),
        ("S-A S-A I-A E-A E-A", {(0, 1, "A"), (1, 2, "A"), (2, 4, "A"), (4, 5, "A")}),
        ("E-A", {(0, 1, "A")}),
        ("B-geo-loc I-geo-loc", {(0, 2, "geo-loc")}),
    ],
)
def test_spans_of_hand_made_labels(labels: str, spans: set[tuple[int, int, str]]) -> None:
    assert spans_of(labels.split(), "spans") == spans


def test_labels_of_single_words_are_spans_of_one() -> None:
    assert spans_of(["NOUN", "NOUN", "O", "B-A"], "words") == {
        (0, 1, "NOUN"),
        (1, 2, "NOUN"),
        (3, 4, "B-A"),
    }


def conlleval(gold: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """Right, given and asked spans, counted word by word as conlleval.pl does.

    Its tables ``endOfChunk`` and ``startOfChunk``, with the lines for S and E that seqeval adds.
    """
    ends = {*("BB", "BO", "IB", "IO", "BS", "IS"), *("EE", "EI", "EO", "EB", "ES")}
    ends |= {*("SB", "SI", "SE", "SS", "SO")}
    starts = {*("BB", "IB", "OB", "EB", "SB"), *("OI", "EI", "SI"), *("OE", "EE", "SE")}
    starts |= {*("BS", "IS", "OS", "ES", "SS")}
    right = given = asked = 0
    open_right = False
    before = ("O", "O")
    for labels in [*zip(gold, predicted, strict=True), ("O", "O")]:
        told = []
        for last, label in zip(before, labels, strict=True):
            tags, other = last[0] + label[0], last[2:] != label[2:]
            ended = tags in ends or (last != "O" and other)
            told.append((ended, tags in starts or (label != "O" and other)))
        ended, began = zip(*told, strict=True)
        if open_right:
            if all(ended):
                open_right, right = False, right + 1
            elif ended[0] != ended[1] or labels[0][2:] != labels[1][2:]:
                open_right = False
        if all(began) and labels[0][2:] == labels[1][2:]:
            open_right = True
        asked, given = asked + began[0], given + began[1]
        before = labels
    return right, given, asked


@pytest.mark.parametrize("prefixes", ["BI", "BIES"])
def test_any_labels_count_as_conlleval_counts_them(prefixes: str) -> None:
    draw = random.Random(0)
    labels = ["O", "O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in "AB")]
    for _ in range(2_000):
        gold = draw.choices(labels, k=draw.randint(1, 9))
        # Half of the words are right, so that spans are.
        predicted = [a if draw.random() < 0.5 else draw.choice(labels) for a in gold]
        wanted, found = spans_of(gold, "spans"), spans_of(predicted, "spans")
        assert (len(wanted & found), len(found), len(wanted)) == conlleval(gold, predicted)


def test_figures_of_hand_made_answers() -> None:
    gold = [["B-A", "I-A", "O", "B-B"], ["O", "O"], ["B-B"]]
    predicted = [["B-A", "I-A", "O", "B-A"], ["O", "B-B"], ["B-B"]]
    score = Score(gold, predicted, "spans")
    told = score.figures()
    # Two right of four given and three asked; five of seven words.
    assert told["precision"] == 0.5
    assert told["recall"] == pytest.approx(2 / 3)
    assert told["f1"] == pytest.approx(4 / 7)
    assert told["token_accuracy"] == pytest.approx(5 / 7)
    assert told == score.figures(), "the bootstrap is seeded"
    low, high = told["f1_interval"]
    assert 0 <= low < told["f1"] < high <= 1
    assert score.as_csv().splitlines()[1:] == [
        f"A,1,1,1,0,0.5,1.0,{2 / 3}",
        "B,2,1,1,1,0.5,0.5,0.5",
    ]


def test_nothing_predicted_is_no_span() -> None:
    told = Score([["B-A"], ["O"]], [["O"], ["O"]], "spans").figures()
    assert (told["f1"], told["precision"], told["recall"]) == (0, 0, 0)
    assert told["token_accuracy"] == 0.5


def test_the_bootstrap_s_error_is_the_binomial_s() -> None:
    predicted = [["B-A" if place % 4 else "B-B"] for place in range(200)]
    told = Score([["B-A"]] * 200, predicted, "spans").figures()
    assert told["f1"] == 0.75
    assert told["f1_stderr"] == pytest.approx((0.75 * 0.25 / 200) ** 0.5, rel=0.1)
