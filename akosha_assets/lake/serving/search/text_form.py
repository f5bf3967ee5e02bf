"""What two texts must share to say the same: their words, numbers and symbols, in the same order.

Case, white space, typographic punctuation and the Unicode form of a letter may differ. Any other difference may be the
point of a text, in every language: a number, a unit, a version, an id, a negation, a name, the order of names, a sign,
a word at the end. So no share of common words makes two texts near-duplicates.
"""

import hashlib
import re
import unicodedata
from itertools import zip_longest

# Longer texts are near-duplicates only of equal ones.
COMPARED_CHARS = 1 << 16

# Characters that are typed in several ways, in one of them; invisible ones removed.
_VARIANTS = str.maketrans(
    dict.fromkeys("‘’‚‛ʼ´", "'")
    | dict.fromkeys("“”„‟«»", '"')
    | dict.fromkeys("‐‑‒–—―−", "-")
    | {"…": "...", "\u200b": None, "\u2060": None, "\ufeff": None, "\u00ad": None}
)
# Marks of a list item or a heading at the beginning of a line. Before a digit, a dash may be a sign.
_LINE_MARK = re.compile(r"^[ \t]*(?:[-*•·]|#{1,6})[ \t]+(?!\d)", re.MULTILINE)
# Punctuation around a word that only structures the text.
_OPENING, _CLOSING = "\"'`([{¿¡", "\"'`)]}.,;:。、，；：．"
BOLD = "**"
# What may stand alone between words; a dash before a number is a sign.
_ALONE = frozenset(("-", "--", "---", "...", ",", ";", ":", '"', "'", "`", "```", "·", "•"))


def form_digest(text: str) -> bytes:
    """A digest, 16 bytes, that is equal for texts that say the same."""
    form = text if len(text) > COMPARED_CHARS else " ".join(words(text)) or text
    return hashlib.blake2b(form.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def words(text: str) -> list[str]:
    """The words, numbers and symbols of `text` in order, without what may differ between near-duplicates."""
    plain = text if text.isascii() else unicodedata.normalize("NFC", text).translate(_VARIANTS)
    chunks = _LINE_MARK.sub("", plain).split()
    return [
        _word(chunk)
        for chunk, following in zip_longest(chunks, chunks[1:], fillvalue="")
        if chunk not in _ALONE or (chunk == "-" and following[:1].isdigit())
    ]


def _word(chunk: str) -> str:
    """`chunk` without punctuation around it; as it is where it has nothing else."""
    word = chunk.removeprefix(BOLD).removesuffix(BOLD).lstrip(_OPENING).rstrip(_CLOSING)
    word = word.removeprefix(BOLD).removesuffix(BOLD)
    if not word:
        return chunk
    # Case tells options, versions, units and ids apart: -d and -D, 5Mb and 5MB.
    return word if word[0] == "-" or any(map(str.isdigit, word)) else word.lower()
