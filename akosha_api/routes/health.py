"""`/health` says how the process does; `/ready` whether a load balancer should send it questions."""

from typing import Any

from fastapi import APIRouter, Response

from akosha_api.dependencies import ServingDep
from akosha_assets.lake.serving.search.results import describe_tier

router = APIRouter(tags=["health"])


@router.get("/health")
async def health(serving: ServingDep) -> dict[str, Any]:
    """`ok`, or `degraded` with the reasons; 200 either way, since the process answers."""
    snapshot = serving.replica.snapshot
    reasons = [
        f"{name}: {tier.reason}"
        for name, tier in snapshot.tiers.items()
        if tier.state == "unavailable" or tier.rows_set_aside
    ]
    model = serving.searcher.embedder
    by_meaning = 0 if model is None else snapshot.vectors.get((model.space, model.dimensions), 0)
    if model is None:
        reasons.append(f"semantic search by words: {serving.searcher.no_model}")
    elif snapshot.visible_rows and not by_meaning:
        reasons.append(
            f"semantic search by words: none of {snapshot.visible_rows} memories has a vector of the space "
            f"{model.space!r}"
        )
    if (cache := serving.replica.cache_reason) is not None:
        reasons.append(f"replica: {cache}; what fits is served from memory")
    silent = serving.replica.silent_seconds()
    if silent > serving.settings.stale_seconds:
        reasons.append(
            f"replica: the tables were last looked at {silent:.0f} s ago; expected every "
            f"{serving.settings.poll_seconds:g} s"
        )
    if (inbox := serving.inbox.reason) is not None:
        reasons.append(inbox)
    return {
        "status": "degraded" if reasons else "ok",
        "reasons": reasons,
        "tiers": {name: describe_tier(tier) for name, tier in snapshot.tiers.items()},
        "keyword_rows": snapshot.keyword_rows,
        "meaning_rows": by_meaning,
        "is_settled": serving.replica.is_settled,
        "inbox": {"url": serving.lake.settings.inbox(), "is_missing": serving.inbox.missing is not None},
        "uptime_seconds": round(serving.uptime_seconds, 1),
    }


@router.get("/ready")
async def ready(serving: ServingDep, response: Response) -> dict[str, Any]:
    """200 once every table was loaded for the first time; 503 before, and while one never was."""
    waiting = [name for name, tier in serving.replica.snapshot.tiers.items() if not tier.is_loaded]
    if waiting:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return {"ready": not waiting, "loading": waiting}
