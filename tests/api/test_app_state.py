"""The thread pool of searches: its queue and its time limit."""

import asyncio
import threading

from akosha_api.app_state import Pool
from akosha_api.errors import Overloaded, TooSlow


def test_a_call_that_gets_no_thread_is_overloaded_and_not_too_slow() -> None:
    asyncio.run(_waited_in_vain())


async def _waited_in_vain() -> None:
    pool, release, calls = Pool(threads=1, queue=1, seconds=0.05), threading.Event(), []
    try:
        outcomes = await asyncio.gather(
            pool.run(release.wait), pool.run(lambda: calls.append(1)), return_exceptions=True
        )
    finally:
        release.set()
    assert [type(outcome) for outcome in outcomes] == [TooSlow, Overloaded]
    while pool._calls:
        await asyncio.sleep(0.01)
    assert await pool.run(lambda: "free again") == "free again"
    assert not calls
    pool.close()
