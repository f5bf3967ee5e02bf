"""The operator token is made once, only its owner can read it, and one that others could read counts for nothing."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from akosha_assets.lake import operator_token


def test_processes_that_start_together_agree_on_one_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: operator_token.read_or_create(tmp_path / "home"), range(32)))
    assert len(tokens) == 1 and len(tokens.pop()) >= 32
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["operator-token"]
    assert stat.S_IMODE(operator_token.path(tmp_path / "home").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_token_that_others_could_know_or_set_is_replaced(tmp_path: Path, mode: int) -> None:
    first = operator_token.read_or_create(tmp_path)
    operator_token.path(tmp_path).chmod(mode)
    assert operator_token.read(tmp_path) == ""
    second = operator_token.read_or_create(tmp_path)
    assert second and second != first


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("a-token-of-somebody-else\n")
    other.chmod(0o600)
    (tmp_path / "home").mkdir()
    operator_token.path(tmp_path / "home").symlink_to(other)
    assert operator_token.read(tmp_path / "home") == ""
    assert operator_token.read_or_create(tmp_path / "home")
    assert other.read_text() == "a-token-of-somebody-else\n"


def test_where_none_can_be_stored_nobody_is_an_operator(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    token = operator_token.read_or_create(tmp_path / "home")
    assert token == ""
    assert not operator_token.matches("", token)


def test_only_the_full_token_matches() -> None:
    assert operator_token.matches(operator_token.bearer("Bearer  abc"), "abc")
    assert operator_token.bearer("Basic abc") == ""
    assert not operator_token.matches("ab", "abc")
    assert not operator_token.matches("äbc", "abc")
