"""Fixtures most tests need: a lake of their own, its settings, and the real uploads where they lie beside the checkout."""

import os
from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AKOSHA_", "AWS_", "DAGSTER_"))]:
        if name != "AKOSHA_SHARED":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real uploads and a real model."""
    folder = Path(os.environ.get("AKOSHA_SHARED", ROOT.parent / "shared"))
    if not (folder / "uploads").is_dir():
        pytest.skip("no real uploads beside the checkout")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> LakeSettings:
    # One worker process is enough for a few rows, and starts in half the time of two.
    return LakeSettings(home=tmp_path / "akosha", workers=1)


@pytest.fixture
def lake(settings: LakeSettings) -> Lake:
    return Lake(settings)
