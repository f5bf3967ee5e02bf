"""A snippet is a stretch of its text whose marks can be trusted, whatever the text; and costs no more than the text is
long.
"""

import sys
import unicodedata
from types import FrameType
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akosha_assets.lake.serving.text import snippets
from akosha_assets.lake.serving.text.analysis import stem, tokenize
from akosha_assets.lake.serving.text.snippets import SNIPPET_CHARS, snippet
from akosha_assets.lake.serving.time_limit import TimeLimitExceeded, time_limit

# Any letters, mostly those that scripts treat differently: combining marks, names, runs without blanks.
PIECES = st.sampled_from(
    (
        "deadlock",
        "Deadlock",
        "ImportError",
        "import",
        "a_b",
        "\u0345",
        "\u0301\u0345",
        "η\u0342\u0345",
        "デッドロック",
        "死锁",
        "ไทย",
        "\u200d",
        " ",
        "-",
        "İ",
        "ß",
        "ﬁ",
        "\U0001f469\u200d\U0001f4bb",
        "\x00",
    )
)
TEXTS = st.lists(PIECES | st.text(max_size=6), max_size=30).map("".join)


def marked(found: dict[str, object]) -> list[str]:
    return [found["text"][first:last] for first, last in found["highlights"]]  # type: ignore[index, attr-defined]


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, question=TEXTS, form=st.sampled_from(("NFC", "NFD", None)))
def test_highlights_are_disjoint(text: str, question: str, form: Literal["NFC", "NFD"] | None) -> None:
    text = unicodedata.normalize(form, text) if form else text
    found = snippet(text, frozenset(stem(word) for word in tokenize(question)) | {"imp*"})
    assert found["text"] in text and len(found["text"]) <= SNIPPET_CHARS
    end = 0
    for first, last in found["highlights"]:
        assert end <= first < last <= len(found["text"])
        end = last
    rebuilt, at = "", 0
    for first, last in found["highlights"]:
        rebuilt += found["text"][at:first] + found["text"][first:last]
        at = last
    assert rebuilt + found["text"][at:] == found["text"]


@pytest.mark.parametrize(
    ("text", "stems", "expected"),
    [
        ("an ImportError in imports", {"import", "importerror"}, ["ImportError", "imports"]),
        ("import Import importing", {"import", "imp*"}, ["import", "Import", "importing"]),
        ("the file τῇ πόλει ᾠδή.md is skipped", {"skip"}, ["skipped"]),
        ("Z\u0351\u036bA\u0369L\u0362\u0368G\u036cO\u0301\u0363 hung", {"hung"}, ["hung"]),
        (unicodedata.normalize("NFD", "τῇ πόλει"), {"πολει"}, [unicodedata.normalize("NFD", "πόλει")]),
    ],
)
def test_matching_words_are_highlighted(text: str, stems: set[str], expected: list[str]) -> None:
    assert marked(snippet(text, frozenset(stems))) == expected


def steps(text: str, stems: frozenset[str]) -> int:
    """Function calls, of Python and of C, that a snippet takes: the same on every machine."""
    count = 0

    def counting(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counting)
    try:
        snippet(text, stems)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "piece",
    [
        "deadlock ",
        "deadlock",
        "Deadlock",
        "a",
        "A",
        "a_",
        "é",
        "é ",
        "\u0301",
        "\u0345",
        "死",
        "死a",
        "ไ",
        "x\u0301 ",
        "\U0001f469\u200d",
        "((",
        "İ",
        "aB",
    ],
)
def test_a_repetitive_text_takes_linear_time(piece: str) -> None:
    stems = frozenset(("deadlock", "a", "e", "b*", "死死", "deadlock*", "x"))
    short, long = steps(piece * 2_000, stems), steps(piece * 8_000, stems)
    assert long <= 4.5 * short + 200


def test_many_stems_cost_no_more_than_a_pass_over_the_text() -> None:
    text = " ".join(f"word{number}" for number in range(2_000))
    few, many = (steps(text, frozenset(f"word{number}" for number in range(count))) for count in (100, 400))
    assert many <= 1.5 * few


def test_a_snippet_ends_at_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snippets, "CHECKED_STEPS", 1)
    with pytest.raises(TimeLimitExceeded), time_limit(0.0):
        snippet("é deadlock " * 100, frozenset(("deadlock",)))
