"""Fixtures of small benchmark runs: a home with a tiny model and its paragraphs."""

import json
from pathlib import Path

import pytest

from akosha_assets.fleet.topics import topics
from tests import tiny_model


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AKOSHA_HOME", str(tmp_path))
    monkeypatch.setenv("AKOSHA_EMBEDDING_MODEL_DIR", str(tiny_model.make(tmp_path / "model")))
    folder = tmp_path / "cache" / "bench"
    folder.mkdir(parents=True)
    texts = [phrase for topic in topics() for phrase in topic.phrases()][:300]
    (folder / "paragraphs-300.json").write_text(json.dumps(texts))
    return tmp_path
