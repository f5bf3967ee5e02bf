"""Names that clients of other services send, and the fields of ours that they mean."""

import difflib
from collections.abc import Sequence

SIMILARITY = 0.6
# By field of ours: what others call it, in lower case.
OTHER_NAMES = {
    "query": "q text question search search_query query_text search_text prompt input content task problem",
    "limit": "top_k topk top_n k n count size num_results n_results max_results maxresults page_size per_page",
    "mode": "search_type search_mode type_of_search method strategy",
    "system_id": "system systems system_ids systemid source host machine device agent_id client_id",
    "project": "projects project_id project_name repo repos repository repo_filter workspace",
    "kind": "kinds type types memory_type memory_types content_type",
    "tags": "tag labels label",
    "since": "from start start_time start_date after date_from from_date time_from time_range time_range_days "
    "time_range_minutes time_window_days days",
    "until": "to end end_time end_date before date_to to_date time_to",
    "budget_tokens": "max_tokens token_budget tokens token_limit",
    "id": "memory_id conversation_id reflection_id evidence_id",
    "cursor": "next_cursor page_token next_page_token offset page",
    "collapse": "deduplicate dedupe fold",
}
FIELD_OF_NAME = {name: field for field, names in OTHER_NAMES.items() for name in names.split()}
# Similarity is not comparable between questions, so no number may cut the results.
THRESHOLDS = {"threshold", "min_score", "min_similarity", "similarity_threshold", "score_threshold", "minscore"}
FILTERS = ("system_id", "project", "kind", "since", "until", "tags", "absent")


def unknown_field(name: str, names: Sequence[str]) -> str:
    """What to do about the unknown field `name` of a request that has the fields `names`, none if they are unknown."""
    expected = f"expected one of {', '.join(names) or 'those that /docs shows'}"
    advice = _advice(name, names)
    return f"is not a field of this request; {expected}{f'; {advice}' if advice else ''}"


def _advice(name: str, names: Sequence[str]) -> str:
    plain = name.lower().replace("-", "_")
    if plain in THRESHOLDS:
        return "leave it out: results are not cut by a score, use limit"
    if plain in ("filters", "filter", "where") and all(each in names for each in FILTERS):
        return f"give each filter as a field of its own: {', '.join(FILTERS)}"
    field = FIELD_OF_NAME.get(plain)
    if field in names:
        return f"use {field}"
    near = difflib.get_close_matches(plain, names, 1, SIMILARITY)
    return f"did you mean {near[0]}?" if near else ""
