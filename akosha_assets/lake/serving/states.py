"""The modes and syntaxes of a search, and the states of tiers and rankings in an answer."""

from enum import StrEnum

# Results of less relevance are not close to the question.
CLOSE = 0.5


class SearchMode(StrEnum):
    """How a question is ranked."""

    HYBRID = "hybrid"
    SEMANTIC = "semantic"
    KEYWORD = "keyword"


class ViewState(StrEnum):
    """Whether a tier's rows are in the replica."""

    LOADING = "loading"
    READY = "ready"
    # Nothing was ever written to the table.
    EMPTY = "empty"
    # The table cannot be read now. A view with a version shows that version.
    UNAVAILABLE = "unavailable"
    # Not searched: cold, by a question about an earlier time.
    SKIPPED = "skipped"


class QuerySyntax(StrEnum):
    """What of a question's text may be an operator."""

    # No part of it.
    PLAIN = "plain"
    # Quoted phrases, signs before them, and fields with a value that some memory has.
    AUTO = "auto"
    # Every operator, among them prefixes and signs before words.
    QUERY = "query"


class TierStatus(StrEnum):
    """What a tier contributed to an answer."""

    ANSWERED = "answered"
    # Still loading, or without rows of files that cannot be read.
    PARTIAL = "partial"
    # The table cannot be read now; the answer shows an earlier version.
    STALE = "stale"
    # Nothing was ever written to the table.
    EMPTY = "empty"
    UNAVAILABLE = "unavailable"
    # Not searched: cold, by a question about an earlier time.
    SKIPPED = "skipped"

    @property
    def is_whole(self) -> bool:
        """Whether every row of the table is in the answer."""
        return self in (TierStatus.ANSWERED, TierStatus.EMPTY)


class RankingStatus(StrEnum):
    """What a ranking contributed to an answer."""

    ANSWERED = "answered"
    # The mode of the question does not use it.
    SKIPPED = "skipped"
    UNAVAILABLE = "unavailable"
