"""Fixtures of most tests: a lake with its settings, and the real uploads if they are next to the checkout."""

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings

ROOT = Path(__file__).parents[1]
# On a busy machine the duration of an example means nothing.
hypothesis.settings.register_profile("akosha", deadline=None)
hypothesis.settings.load_profile("akosha")
# Read before a fixture removes the variables. Everything is installed, so a skipped test is a failure.
NO_SKIPS = os.environ.get("AKOSHA_TEST_NO_SKIPS") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail skipped tests with `AKOSHA_TEST_NO_SKIPS=1`, except those that are slow or use the real uploads."""
    report = yield
    is_optional = item.get_closest_marker("slow") or "shared" in getattr(item, "fixturenames", ())
    if NO_SKIPS and report.skipped and not is_optional:
        report.outcome = "failed"
        report.longrepr = f"AKOSHA_TEST_NO_SKIPS=1, and the test was skipped: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def remove_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AKOSHA_", "AWS_", "DAGSTER_"))]:
        if name != "AKOSHA_SHARED":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real uploads and a real model."""
    folder = Path(os.environ.get("AKOSHA_SHARED", ROOT.parent / "shared"))
    if not (folder / "uploads").is_dir():
        pytest.skip("no real uploads next to the checkout")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> LakeSettings:
    # One worker process suffices for a few rows, and starts in half the time of two.
    return LakeSettings(home=tmp_path / "akosha", workers=1)


@pytest.fixture
def lake(settings: LakeSettings) -> Lake:
    return Lake(settings)
