"""Rows that arrived without a vector are embedded."""

from pathlib import Path

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.lifecycle.hot import PIECE_ROWS, days_without_vectors, embed_day
from akosha_assets.lake.settings import LakeSettings
from tests import tiny_model
from tests.lake.lifecycle.memories import days_ago, hot_rows, store


def test_embedding_a_day_saves_its_progress_when_stopped_and_resumes(tmp_path: Path) -> None:
    lake = Lake(
        LakeSettings(
            home=tmp_path, embedding_model="akosha/tiny", embedding_model_dir=tiny_model.make(tmp_path / "model")
        )
    )
    day = days_ago(1)
    store(lake, hot_rows(day, 3 * PIECE_ROWS, embedded=False))
    embedder = Embedder.load(lake.settings)
    answers = iter([False, True, True])
    first = embed_day(lake, day, embedder, run_id="r", stop=lambda: next(answers))
    assert first.rows == PIECE_ROWS
    assert days_without_vectors(lake, embedder.space) == {day: 2 * PIECE_ROWS}
    assert embed_day(lake, day, embedder, run_id="r").rows == 2 * PIECE_ROWS
    assert days_without_vectors(lake, embedder.space) == {}
