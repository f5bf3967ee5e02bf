"""Every setting of the lake: the groups of `setting_groups/` as one class.

Each field declares its environment variable, default, unit, bound and meaning; `docs/settings.md` is generated from
them. Reads the environment (prefix `AKOSHA_`) and nothing else. Settings of the HTTP service alone are in
`akosha_api/settings.py`.
"""

from pydantic_settings import SettingsConfigDict

from akosha_assets.lake.setting_groups.embedding import EmbeddingSettings
from akosha_assets.lake.setting_groups.ingestion import IngestionSettings
from akosha_assets.lake.setting_groups.places import BackupSettings, PlaceSettings, resolve_url
from akosha_assets.lake.setting_groups.tiers import TierSettings
from akosha_assets.lake.setting_groups.uploads import UploadSettings
from akosha_assets.lake.setting_groups.watch import WatchSettings


# Pydantic takes the fields of the last base first, and `docs/settings.md` shows them in that order.
class LakeSettings(
    BackupSettings,
    TierSettings,
    EmbeddingSettings,
    UploadSettings,
    WatchSettings,
    IngestionSettings,
    PlaceSettings,
):
    """Where the lake is stored, what an upload may cost, and how batches are bounded."""

    model_config = SettingsConfigDict(env_prefix="AKOSHA_", frozen=True, extra="ignore")

    def backup(self) -> str:
        """URL of the folder of the backups, without a trailing slash."""
        return resolve_url(self.backup_url, self.home / "backup")
