"""Required and excluded terms match semantic results as the keyword index matches them."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from akosha_assets.lake.serving.search.required_terms import matches_all
from akosha_assets.lake.serving.states import QuerySyntax
from akosha_assets.lake.serving.text.analysis import tokenize
from akosha_assets.lake.serving.text.query_syntax import parse_query

WORDS = st.lists(st.sampled_from(("lock", "locked", "dead", "deadlock", "a")), min_size=1, max_size=8)


def holds(question: str, text: str) -> bool:
    part: Any = SimpleNamespace(payload=SimpleNamespace(value=lambda _name, _row: text))
    return matches_all(part, 0, parse_query(question, QuerySyntax.QUERY).required, {})


@given(text=WORDS, sought=WORDS, is_prefix=st.booleans())
def test_a_phrase_or_prefix_matches_consecutive_words(text: list[str], sought: list[str], is_prefix: bool) -> None:
    question = f"+{'-'.join(sought)}*" if is_prefix else f'+"{" ".join(sought)}"'
    windows = [text[start : start + len(sought)] for start in range(len(text) - len(sought) + 1)]
    *first, last = sought
    expected = any(
        each[:-1] == first and (each[-1].startswith(last) if is_prefix else each[-1] == last) for each in windows
    )
    assert holds(question, " ".join(text)) is expected
    assert holds("-" + question[1:], " ".join(text)) is not expected


def test_a_repeated_phrase_is_searched_in_one_pass() -> None:
    text = "lock " * 100_000
    assert tokenize(text[:10]) == ["lock", "lock"]
    assert not holds(f'+"{"lock " * 2_000}dead"', text)
    assert holds(f'+"{"lock " * 2_000}"', text)
