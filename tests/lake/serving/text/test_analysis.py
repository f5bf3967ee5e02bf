"""Splitting text into words takes time linear in its length, whatever it repeats."""

import re
import sys
from types import FrameType
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akosha_assets.lake.serving.text import analysis
from akosha_assets.lake.serving.text.analysis import identifier_parts, stem

NAMES = st.lists(st.sampled_from(("aB", "Ab", "AB", "a", "B", "7", "é", " ", "_", "HTTPServer")), max_size=40).map(
    "".join
)


def expected(text: str) -> list[str]:
    """The names of several words in `text`."""
    return [name for name in re.findall("[A-Za-z0-9]+", text) if re.search("[a-z0-9][A-Z]|[A-Z][A-Z][a-z]", name)]


@pytest.mark.parametrize("step_work", [0, 1, 16, 1000])
@given(texts=st.lists(NAMES, max_size=6))
def test_names_of_any_length_are_found(step_work: int, texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "STEP_WORK", step_work)
        found = identifier_parts(pa.array(texts, pa.string()))
    for text, inside in zip(texts, found, strict=True):
        assert "".join((inside or "").split()) == "".join(expected(text))


def lines(call: Any) -> int:
    """Lines of Python that `call` runs: each is an array operation or less."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("piece", ["aB", "AaAAa", "a1B", "XMLHttp", "aB ", "aB" + "a" * 4000])
def test_long_names_take_few_array_operations(piece: str) -> None:
    text = (piece * 20_000)[:20_000]
    short = lines(lambda: identifier_parts(pa.array([piece])))
    # Six lines a step, and in both directions only as many steps as cost no more than a pass over the text.
    assert lines(lambda: identifier_parts(pa.array([text]))) <= short + 2 * 6 * (len(text) // analysis.STEP_WORK + 1)


def test_the_stem_of_an_overlong_word_is_the_word_and_is_not_cached() -> None:
    size = analysis._stem.cache_info().currsize
    assert stem("failing" * 100_000) == "failing" * 100_000
    assert (analysis._stem.cache_info().currsize, stem("failing")) in ((size, "fail"), (size + 1, "fail"))
