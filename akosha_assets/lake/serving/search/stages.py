"""What each ranking reports about itself in an answer."""

from dataclasses import dataclass

from akosha_assets.lake.serving.states import RankingStatus


@dataclass(kw_only=True)
class RankingStage:
    """What one ranking did. `reason` says why it is not `answered`, or which rows it could not rank."""

    state: RankingStatus = RankingStatus.SKIPPED
    reason: str | None = None
    # Every memory was ranked; `reason` then names those of which only the beginning was.
    is_complete: bool = True
    space: str | None = None
    candidates: int = 0
    approximate: bool = False
    took_ms: float = 0.0
