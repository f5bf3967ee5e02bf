"""Extractive summaries of many texts at once: the sentences of each text that are most similar to the others.

The method is continuous LexRank (Erkan & Radev, JAIR 2004): sentences are weighted word vectors, the cosine of each
pair in a text is the weight of a link, and the stationary distribution of a walk on the links ranks the sentences. The
links are never built: with one term space per text, a step of the walk for all texts is two sums over the words. A
summary depends on its own text only, so equal texts have equal summaries.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

METHOD = "lexrank-continuous/1"
SENTENCE_MAX_CHARS = 400
TEXT_MAX_CHARS = 100_000
_DAMPING = 0.15
_STEPS = 12

# A sentence ends at . ! or ? before a capital, a digit or an opening quote, and at the end of a line, so that code,
# logs and lists are split into lines. A run of marks is one end.
_END = r"([.!?…。！？]+[\"'”’)\]]*)[ \t]+([\p{Lu}\p{N}\"'“‘(\[`#-])"
_LINE = r"[ \t]*[\r\n\x0b\x0c\x{2028}\x{2029}]+[ \t]*"
# Wrapped prose continues in the first column with a small letter; indented lines are code.
_WRAPPED = r"([\p{L}\p{N},;])[ \t]*\r?\n(\p{Ll})"
# Lines without words: fences, rules, single brackets.
_WORDLESS = r"^(```.*|[^\p{L}\p{N}]*)$"

# Maps each ASCII byte to a small letter, a digit or a space; other bytes stay.
_LOWER_OR_SPACE = np.array(
    [ord(chr(n).lower()) if chr(n).isalnum() else 32 for n in range(128)] + list(range(128, 256)), np.uint8
)


def summarise(texts: pa.Array, sentences: int) -> pa.Array:
    """At most `sentences` sentences of each text in their order, separated by spaces: (texts,) string without nulls.

    The summary of a text without words is its beginning.
    """
    count = len(texts)
    owner, split = _split(texts)
    rank = np.zeros(len(split))
    # A text with no more sentences than asked for is kept whole: nothing needs ranking.
    is_long = np.bincount(owner, minlength=count) > sentences
    ranked = np.flatnonzero(is_long[owner])
    terms_of, terms = _terms(split.take(pa.array(ranked)))
    rank[ranked] = _lexrank((np.cumsum(is_long) - 1)[owner[ranked]], terms_of, terms, int(is_long.sum()))
    # The best of each text: by text, then by descending rank, then by position; then in the order of the text.
    place = np.arange(len(split))
    best = np.lexsort((place, -rank, owner))
    starts = np.searchsorted(owner[best], np.arange(count))
    rank_in_text = np.arange(len(best)) - starts[owner[best]]
    selected = np.sort(best[rank_in_text < sentences])
    offsets = np.searchsorted(owner[selected], np.arange(count + 1)).astype(np.int32)
    clipped = pc.utf8_slice_codeunits(split.take(pa.array(selected)), 0, SENTENCE_MAX_CHARS)
    summaries = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), clipped), " ")
    return pc.if_else(
        pc.equal(summaries, ""),
        pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(texts), 0, SENTENCE_MAX_CHARS),
        summaries,
    )


def _split(texts: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """The text of each distinct sentence, (sentences,) int64, sorted, and the sentences, (sentences,) string."""
    clipped = pc.utf8_slice_codeunits(texts, 0, TEXT_MAX_CHARS)
    unwrapped = pc.replace_substring_regex(clipped, _WRAPPED, r"\1 \2")
    lines = pc.replace_substring_regex(unwrapped, _LINE, "\n")
    marked = pc.replace_substring_regex(lines, _END, r"\1" + "\n" + r"\2")
    split = pc.split_pattern(marked, "\n")
    owner, sentences = pc.list_parent_indices(split), pc.utf8_trim_whitespace(pc.list_flatten(split))
    has_words = pc.invert(pc.match_substring_regex(sentences, _WORDLESS))
    owners, sentences = owner.filter(has_words).to_numpy(), sentences.filter(has_words)
    # A line that is logged a hundred times is one sentence, at its first position.
    codes = sentences.dictionary_encode().indices.to_numpy().astype(np.int64)
    _, first = np.unique(owners * (codes.max(initial=0) + 1) + codes, return_index=True)
    first.sort()
    return owners[first], sentences.take(pa.array(first))


def _terms(sentences: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The sentence and the word number of every word, each (words,) int."""
    is_unicode = pc.invert(pc.string_is_ascii(sentences))
    if pc.any(is_unicode).as_py():
        # Outside ASCII only Unicode tables tell letters from marks.
        words = pc.replace_substring_regex(pc.utf8_lower(sentences.filter(is_unicode)), r"[^\p{L}\p{N}]+", " ")
        sentences = pc.replace_with_mask(sentences, is_unicode, words)
    sentences = pa.concat_arrays([sentences])
    validity, offsets, data = sentences.buffers()
    spaced = _LOWER_OR_SPACE[np.frombuffer(data, np.uint8)] if data is not None else np.zeros(0, np.uint8)
    split = pc.split_pattern(
        pa.StringArray.from_buffers(len(sentences), offsets, pa.py_buffer(spaced), validity, -1, sentences.offset), " "
    )
    owner, words = pc.list_parent_indices(split), pc.list_flatten(split)
    is_word = pc.not_equal(words, "")
    return owner.filter(is_word).to_numpy(), words.filter(is_word).dictionary_encode().indices.to_numpy()


def _lexrank(owner: np.ndarray, sentence_of: np.ndarray, terms: np.ndarray, texts: int) -> np.ndarray:
    """The rank of each sentence in its text, (sentences,) float64.

    `owner`: (sentences,) the text of each; `sentence_of`, `terms`: as `_terms` returns them.
    """
    count = len(owner)
    if not count:
        return np.zeros(0)
    width = int(terms.max(initial=0)) + 1
    # One entry for each distinct word of a sentence, with its frequency.
    counted = pc.value_counts(pa.array(sentence_of.astype(np.int64) * width + terms))
    pairs, frequency = counted.field("values").to_numpy(), counted.field("counts").to_numpy()
    sentence, word = pairs // width, pairs % width
    # A word in two texts is two terms, so that texts do not mix.
    term = (
        pa.array(owner[sentence].astype(np.int64) * width + word)
        .dictionary_encode()
        .indices.to_numpy()
        .astype(np.int64)
    )
    sentences_in_text = np.bincount(owner, minlength=texts)
    spread = np.bincount(term)[term]
    weight = frequency * np.log1p(sentences_in_text[owner[sentence]] / spread)
    length = np.sqrt(np.bincount(sentence, weights=weight * weight, minlength=count))
    weight /= length[sentence]
    # Most words are in one sentence only and link nothing.
    shared = spread > 1
    sentence, term, weight = sentence[shared], term[shared], weight[shared]
    alone = np.bincount(sentence, weights=weight * weight, minlength=count)

    def linked(values: np.ndarray) -> np.ndarray:
        by_term = np.bincount(term, weights=weight * values[sentence])
        # Without the sentence itself.
        sums = np.bincount(sentence, weights=weight * by_term[term], minlength=count)
        others: np.ndarray = np.maximum(sums - alone * values, 0)
        return others

    degree = linked(np.ones(count))
    share = np.where(degree > 1e-9, degree, 1)
    start = 1 / sentences_in_text[owner]
    rank = start
    for _ in range(_STEPS):
        rank = _DAMPING * start + (1 - _DAMPING) * linked(rank / share)
    # The last bits of a sum must not decide between equal ranks.
    rounded: np.ndarray = np.round(rank, 9)
    return rounded
