"""Highlights of search results: whatever is searched for, a snippet shows the memory's own text and nothing else."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.serving.query import Question
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.searcher import Searcher
from akosha_assets.lake.settings import LakeSettings
from tests.hot_rows import NOW, commit, memory

TEXTS = (
    "an ImportError in imports of ModuleNotFoundError",
    "import Import importing import_error src/import/error.py importError",
    "デッドロック 死锁 ไทย deadlock",
    "τῇ πόλει ᾠδή.md e\u0301te\u0301 İstanbul ßs ﬁle \U0001f469\u200d\U0001f4bb",
    "aBaBaB a a_b a-b A B\u0345",
)
WORDS = ("import", "ImportError", "error", "imp", "module", "死锁", "デッド", "ไท", "été", "a", "aB", "file", "πόλει")
TERMS = st.builds(
    lambda sign, word, form: sign + form.format(word),
    st.sampled_from(("", "+", "")),
    st.sampled_from(WORDS) | st.text(min_size=1, max_size=4),
    st.sampled_from(("{}", "{}*", '"{}"', '"{} error"', "text:{}")),
)


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(LakeSettings(home=Path(folder)))
        commit(lake, 1, *(memory(str(number), text) for number, text in enumerate(TEXTS)))
        replica = Replica(lake, today=NOW.date)
        replica.refresh()
        yield replica
        replica.stop()


@settings(max_examples=150, deadline=None)
@given(terms=st.lists(TERMS, min_size=1, max_size=4))
def test_a_snippet_without_its_marks_is_a_part_of_the_text(replica: Replica, terms: list[str]) -> None:
    searcher = Searcher(None)
    try:
        answer = searcher.search(replica.snapshot, Question(text=" ".join(terms), mode="keyword"))
    except InvalidRequest:
        # Nothing but blanks.
        return
    assert searcher.snippet_failures == 0
    for result in answer.results:
        excerpt, at, shown = result["snippet"]["text"], 0, ""
        for start, end in result["snippet"]["highlights"]:
            assert at <= start < end
            shown += f"{excerpt[at:start]}{excerpt[start:end]}"
            at = end
        assert shown + excerpt[at:] == excerpt
        assert excerpt in result["text"]
