"""Settings: when an event day changes its tier, and what each tier keeps."""

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from akosha_assets.lake.checked_settings import CheckedSettings

WARM_MAY_KEEP = ("text", "attributes", "_rescued")


class TierSettings(CheckedSettings):
    """The windows of hot, warm and cold, retention, and the recall gate."""

    hot_days: Annotated[
        int, Field(ge=1, le=365, description="Age in days at which an event day moves from hot to warm.")
    ] = 7
    warm_days: Annotated[
        int, Field(ge=2, le=3650, description="Age in days at which an event day moves from warm to cold.")
    ] = 90
    cold_years: Annotated[
        int, Field(ge=1, le=100, description="Years an event day is kept in cold before retention may delete it.")
    ] = 7
    retention_deletes: Annotated[
        bool,
        Field(
            description=(
                "Whether the nightly retention deletes what is older than AKOSHA_COLD_YEARS. Unset: it only counts."
            )
        ),
    ] = False
    warm_keeps: Annotated[
        str,
        Field(
            description=(
                "Columns that warm keeps in full, separated by commas: `text`, `attributes`, `_rescued`. "
                "Empty: none of them."
            )
        ),
    ] = "attributes"
    warm_recall: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Minimum recall@10 of the int8 vectors against the hot vectors; below it a day stays in hot.",
        ),
    ] = 0.97
    cold_recall: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Minimum recall@10 of the 1-bit sketches against the warm vectors; below it a day stays.",
        ),
    ] = 0.5
    aging_days_at_once: Annotated[
        int, Field(ge=1, le=64, description="Event days that one aging run moves at the same time.")
    ] = 2
    recall_probes: Annotated[
        int, Field(ge=0, le=1000, description="Queries that the recall gate runs on a day. 0: no gate.")
    ] = 64

    @field_validator("warm_keeps")
    @classmethod
    def _check_columns(cls, names: str) -> str:
        unknown = {name.strip() for name in names.split(",") if name.strip()} - set(WARM_MAY_KEEP)
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))}: warm can keep {', '.join(WARM_MAY_KEEP)}")
        return names

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        if self.warm_days <= self.hot_days:
            raise ValueError(
                f"AKOSHA_WARM_DAYS is {self.warm_days}; a day cannot leave warm before it enters it "
                f"at AKOSHA_HOT_DAYS, which is {self.hot_days}"
            )
        return self
