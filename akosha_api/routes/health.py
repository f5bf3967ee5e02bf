"""`/health`: the state of the process; `/ready`: whether a load balancer should send it requests."""

from typing import Any

from fastapi import APIRouter, Response

from akosha_api.app_state import AppState
from akosha_api.dependencies import StateDep
from akosha_assets.lake.serving.search.results import describe_tier
from akosha_assets.lake.serving.states import ViewState

router = APIRouter(tags=["health"])


@router.get("/health")
async def health(service: StateDep) -> dict[str, Any]:
    """`ok`, or `degraded` with the reasons; always 200."""
    snapshot, model = service.replica.snapshot, service.searcher.embedder
    vector_rows = 0 if model is None else snapshot.vectors.get((model.space, model.dimensions), 0)
    reasons = _reasons(service, vector_rows)
    return {
        "status": "degraded" if reasons else "ok",
        "reasons": reasons,
        "tiers": {name: describe_tier(tier) for name, tier in snapshot.tiers.items()},
        "keyword_rows": snapshot.keyword_rows,
        "meaning_rows": vector_rows,
        "is_settled": service.replica.is_settled,
        "inbox": {"url": service.lake.settings.inbox(), "is_missing": service.inbox.missing is not None},
        "uptime_seconds": round(service.uptime_seconds, 1),
    }


def _reasons(service: AppState, vector_rows: int) -> list[str]:
    """Why the service is degraded."""
    snapshot, model = service.replica.snapshot, service.searcher.embedder
    reasons = [
        f"{name}: {tier.reason}"
        for name, tier in snapshot.tiers.items()
        if tier.state == ViewState.UNAVAILABLE or tier.rows_set_aside
    ]
    if model is None:
        reasons.append(f"semantic search by words: {service.searcher.no_model}")
    elif snapshot.visible_rows and not vector_rows:
        reasons.append(
            f"semantic search by words: none of {snapshot.visible_rows} memories has a vector of the space "
            f"{model.space!r}"
        )
    if (cache := service.replica.cache_reason) is not None:
        reasons.append(f"replica: {cache}; what fits is served from memory")
    age = service.replica.silent_seconds()
    if age > service.settings.stale_seconds:
        reasons.append(
            f"replica: the tables were last read {age:.0f} s ago; expected every {service.settings.poll_seconds:g} s"
        )
    if (inbox := service.inbox.reason) is not None:
        reasons.append(inbox)
    return reasons


@router.get("/ready")
async def ready(service: StateDep, response: Response) -> dict[str, Any]:
    """200 once every table was loaded for the first time; 503 before."""
    waiting = [name for name, tier in service.replica.snapshot.tiers.items() if not tier.is_loaded]
    if waiting:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return {"ready": not waiting, "loading": waiting}
