"""Sentences with figures in them."""

import pytest

from peer.laboratory.summary import Record
from peer.laboratory.words import fill, parse

ROWS: list[Record] = [
    {"peers": peers, "churn": churn, "share": share, "ok": share > 0.5}
    for peers, churn, share in [
        (10, "none", 1.0),
        (10, "none", 0.5),
        (20, "none", 0.25),
        (20, "a b", None),
        (30, "", 0.8),
    ]
    if share is not None
] + [{"peers": 20, "churn": "a b", "share": None, "ok": None}]


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("plain", "plain"),
        ("{{x}}", "{x}"),
        ("a {mean share} b", "a 0.6375 b"),
        ("{min share} {max share} {count share}", "0.25 1 4"),
        ("{mean share where peers = 10}", "0.75"),
        ('{mean share where peers=10 and churn="none"}', "0.75"),
        ("{mean share where peers >= 20 and peers < 30}", "0.25"),
        ('{mean share where peers != 10 and churn != "none"}', "0.8"),
        ('{mean share where churn = "a b"}', "(no value)"),
        ("{mean share where churn < 3}", "(no value)"),
        ("{mean nothing}", "(no value)"),
        ("{mean ok as percent}", "50.0 %"),
        ("{max share over peers}", "0.8"),
        ("{min share over peers, churn as percent}", "25.0 %"),
        ("{argmax peers of share}", "30"),
        ("{argmin peers,churn of share}", "20, none"),
        ('{argmin peers of share where churn = ""}', "30"),
        ("{argmax peers of nothing}", "(no value)"),
        ("{max peers as whole}", "30"),
        ("{argfar peers from 30 of share}", "20"),
        ("{argfar peers from 10 of share where peers != 20}", "30"),
        ('{argfar churn from "none" of share}', ""),
        ("{argfar peers from 40 of share}", "(no value)"),
        ('{argfar churn from "a b" of share}', "(no value)"),
    ],
)
def test_figures(template: str, sentence: str) -> None:
    assert fill(parse(template), ROWS) == sentence


@pytest.mark.parametrize(
    "template",
    [
        "{",
        "}",
        "{}",
        "{mean}",
        "{median share}",
        "{argmax share}",
        "{mean share over peers}",
        "{mean share where}",
        "{mean share where peers}",
        "{mean share where peers = }",
        "{mean share where peers ~ 3}",
        "{mean share where peers = none}",
        "{mean share as}",
        "{mean share as roman}",
        "{mean share where peers = 10 or peers = 20}",
        "{mean share peers}",
        "{argfar peers of share}",
        "{argfar peers from of share}",
        "{argfar peers from 30}",
        "{argfar peers, churn from 30 of share}",
    ],
)
def test_what_is_no_placeholder(template: str) -> None:
    with pytest.raises(ValueError, match="is none of the placeholders|a single"):
        parse(template)
