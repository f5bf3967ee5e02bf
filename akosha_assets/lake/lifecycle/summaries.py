"""Extractive summaries of many texts at once: which sentences of each text say what the rest of it says.

The method is continuous LexRank (Erkan & Radev, JAIR 2004): sentences are weighted word vectors, every pair of a text
is linked by its cosine, and the stationary distribution of a walk on those links ranks the sentences. The links are
never built: with one term space per text, a step of the walk for all texts is two sums over the words. A summary
depends on its own text alone, so the same text always gives the same summary.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

METHOD = "lexrank-continuous/1"
SENTENCE_MAX_CHARS = 400
TEXT_MAX_CHARS = 100_000
_DAMPING = 0.15
_STEPS = 12

# A sentence ends at . ! or ? before a capital, a digit or an opening quote; a line ends one as well, so that code,
# logs and lists fall into their lines. Runs of the same mark are one end.
_END = r"([.!?…。！？]+[\"'”’)\]]*)[ \t]+([\p{Lu}\p{N}\"'“‘(\[`#-])"
_LINE = r"[ \t]*[\r\n\x0b\x0c\x{2028}\x{2029}]+[ \t]*"
# Prose that was wrapped goes on at the left edge with a small letter; indented lines are code.
_WRAPPED = r"([\p{L}\p{N},;])[ \t]*\r?\n(\p{Ll})"
# Lines that say nothing: fences, rules, lone brackets.
_WORDLESS = r"^(```.*|[^\p{L}\p{N}]*)$"

# Each byte of ASCII as a small letter, a digit or a space; other bytes as they are.
_LOWER_OR_SPACE = np.array(
    [ord(chr(n).lower()) if chr(n).isalnum() else 32 for n in range(128)] + list(range(128, 256)), np.uint8
)


def summarise(texts: pa.Array, sentences: int) -> pa.Array:
    """At most `sentences` sentences of each text, in their order in the text, separated by a space. None are null.

    A text without any word, and only that, is its own summary, cut to the length of a sentence.
    """
    count = len(texts)
    owner, found = _split(texts)
    rank = np.zeros(len(found))
    # A text of no more sentences than are wanted is kept whole: nothing needs ranking.
    many = np.bincount(owner, minlength=count) > sentences
    ranked = np.flatnonzero(many[owner])
    terms_of, terms = _terms(found.take(pa.array(ranked)))
    rank[ranked] = _lexrank((np.cumsum(many) - 1)[owner[ranked]], terms_of, terms, int(many.sum()))
    # The best of each text: by text, then by falling rank, then by place; then back into the order of the text.
    place = np.arange(len(found))
    best = np.lexsort((place, -rank, owner))
    starts = np.searchsorted(owner[best], np.arange(count))
    standing = np.arange(len(best)) - starts[owner[best]]
    kept = np.sort(best[standing < sentences])
    offsets = np.searchsorted(owner[kept], np.arange(count + 1)).astype(np.int32)
    chosen = pc.utf8_slice_codeunits(found.take(pa.array(kept)), 0, SENTENCE_MAX_CHARS)
    summaries = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), chosen), " ")
    return pc.if_else(
        pc.equal(summaries, ""),
        pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(texts), 0, SENTENCE_MAX_CHARS),
        summaries,
    )


def _split(texts: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Every distinct sentence of every text, in order, and the number of the text it belongs to."""
    clipped = pc.utf8_slice_codeunits(texts, 0, TEXT_MAX_CHARS)
    unwrapped = pc.replace_substring_regex(clipped, _WRAPPED, r"\1 \2")
    lines = pc.replace_substring_regex(unwrapped, _LINE, "\n")
    marked = pc.replace_substring_regex(lines, _END, r"\1" + "\n" + r"\2")
    split = pc.split_pattern(marked, "\n")
    owner, sentences = pc.list_parent_indices(split), pc.utf8_trim_whitespace(pc.list_flatten(split))
    worded = pc.invert(pc.match_substring_regex(sentences, _WORDLESS))
    owners, sentences = owner.filter(worded).to_numpy(), sentences.filter(worded)
    # A line that is logged a hundred times is one sentence, where it first stood.
    codes = sentences.dictionary_encode().indices.to_numpy().astype(np.int64)
    _, first = np.unique(owners * (codes.max(initial=0) + 1) + codes, return_index=True)
    first.sort()
    return owners[first], sentences.take(pa.array(first))


def _terms(sentences: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """For every word of every sentence: the number of the sentence, and the number of the word."""
    exotic = pc.invert(pc.string_is_ascii(sentences))
    if pc.any(exotic).as_py():
        # Outside ASCII it takes a table of Unicode to tell letters from marks.
        words = pc.replace_substring_regex(pc.utf8_lower(sentences.filter(exotic)), r"[^\p{L}\p{N}]+", " ")
        sentences = pc.replace_with_mask(sentences, exotic, words)
    sentences = pa.concat_arrays([sentences])
    validity, offsets, data = sentences.buffers()
    spaced = _LOWER_OR_SPACE[np.frombuffer(data, np.uint8)] if data is not None else np.zeros(0, np.uint8)
    split = pc.split_pattern(
        pa.StringArray.from_buffers(len(sentences), offsets, pa.py_buffer(spaced), validity, -1, sentences.offset), " "
    )
    owner, words = pc.list_parent_indices(split), pc.list_flatten(split)
    worded = pc.not_equal(words, "")
    return owner.filter(worded).to_numpy(), words.filter(worded).dictionary_encode().indices.to_numpy()


def _lexrank(owner: np.ndarray, sentence_of: np.ndarray, terms: np.ndarray, texts: int) -> np.ndarray:
    """The rank of each sentence within its text."""
    count = len(owner)
    if not count:
        return np.zeros(0)
    width = int(terms.max(initial=0)) + 1
    # One entry per distinct word of a sentence, with how often it stands there.
    counted = pc.value_counts(pa.array(sentence_of.astype(np.int64) * width + terms))
    pairs, frequency = counted.field("values").to_numpy(), counted.field("counts").to_numpy()
    sentence, word = pairs // width, pairs % width
    # The same word in two texts is two terms, so that texts do not mix.
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
    # A word of one sentence alone links nothing. Most words are.
    shared = spread > 1
    sentence, term, weight = sentence[shared], term[shared], weight[shared]
    alone = np.bincount(sentence, weights=weight * weight, minlength=count)

    def linked(values: np.ndarray) -> np.ndarray:
        by_term = np.bincount(term, weights=weight * values[sentence])
        # Without itself: a sentence does not speak for itself.
        return np.maximum(np.bincount(sentence, weights=weight * by_term[term], minlength=count) - alone * values, 0)

    degree = linked(np.ones(count))
    share = np.where(degree > 1e-9, degree, 1)
    start = 1 / sentences_in_text[owner]
    rank = start
    for _ in range(_STEPS):
        rank = _DAMPING * start + (1 - _DAMPING) * linked(rank / share)
    # Equal ranks must not be decided by the last bit of a sum.
    return np.round(rank, 9)
