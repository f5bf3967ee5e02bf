"""Loads the definitions again for each test, because an earlier test may have had another instance."""

from collections.abc import Iterator

import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage


@pytest.fixture(autouse=True)
def no_instance_of_an_earlier_test() -> Iterator[None]:
    with set_defs_state_storage(None):
        yield
