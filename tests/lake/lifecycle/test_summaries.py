"""Summaries take the sentences that the rest of a text supports, in the text's order."""

import pyarrow as pa

from akosha_assets.lake.lifecycle.summaries import SENTENCE_MAX_CHARS, summarise


def one(text: str, sentences: int = 3) -> str:
    return summarise(pa.array([text]), sentences)[0].as_py()


def test_a_summary_has_the_central_sentences_not_the_first() -> None:
    text = (
        "Good morning everyone. I had coffee. The redis cache kept stale keys because the cache had no TTL. "
        "We set a TTL on every redis cache key. Stale redis keys now leave the cache after the TTL. Lunch was pizza."
    )
    summary = one(text)
    assert "coffee" not in summary and "pizza" not in summary
    assert summary.startswith("The redis cache kept stale keys") and summary.endswith("after the TTL.")


def test_a_text_of_three_sentences_or_fewer_is_its_own_summary() -> None:
    assert one("One thing. Another thing.") == "One thing. Another thing."
    assert one("no full stop at all") == "no full stop at all"


def test_log_lines_and_code_fall_into_lines_and_repeats_count_once() -> None:
    log = "```\n" + "2026-01-01 ERROR disk full on node7\n" * 50 + "2026-01-01 INFO node7 restarted\n```"
    assert one(log) == "2026-01-01 ERROR disk full on node7 2026-01-01 INFO node7 restarted"


def test_texts_without_words_and_empty_texts_do_not_fail() -> None:
    assert summarise(pa.array(["", "!!! ---", "   "]), 3).to_pylist() == ["", "!!! ---", ""]
    assert summarise(pa.array([], pa.string()), 3).to_pylist() == []


def test_a_summary_does_not_depend_on_the_texts_beside_it() -> None:
    texts = [
        f"Build {n} failed. The cache was stale in build {n}. We cleared it. All is well. Build {n} passed then."
        for n in range(50)
    ]
    together = summarise(pa.array(texts), 2).to_pylist()
    assert together == [one(text, 2) for text in texts]


def test_an_endless_line_is_cut() -> None:
    assert len(one("x" * 1_000_000)) == SENTENCE_MAX_CHARS
