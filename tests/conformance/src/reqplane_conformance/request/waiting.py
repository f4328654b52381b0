"""Waiting, with a limit: for what a case lets a transport do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from reqplane_conformance.leftovers import waits_at
from reqplane_conformance.request.fates import fate, told
from reqplane_conformance.request.stage import Frontend, RequestStage
from reqplane_conformance.verdict import Nonconformance, check, fail

AT_ONCE = "an error at once, without waiting for a time-out"
WAITS = (
    "what bounds the wait for the ack: min(deadline, now + a time-out of your own); `deadline` is a moment "
    "on the loop's clock"
)
_BOUNDED = "its deadline bounds the wait"
_THEY_WAIT = "what they wait for"
_TAKES = 7.0
"""Seconds that closing may take."""


async def ends(stage: RequestStage, sending: Awaitable[None], seconds: float, wanted: str = _BOUNDED) -> None:
    """Wait for a send; Nonconformance if it takes longer than so many seconds."""
    __tracebackhide__ = True
    loop = asyncio.get_running_loop()
    limit = seconds * stage.patience
    began = loop.time()
    task = asyncio.ensure_future(sending)
    await asyncio.wait({task}, timeout=limit + 5 * stage.patience)
    took = loop.time() - began
    if took >= limit:
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        fail(f"send took {took:.2f} s, or longer", f"{wanted}, here {limit:g} s at most", WAITS)
    await task


async def until_it_works(stage: RequestStage, frontend: Frontend, worker: object) -> None:
    """Send until it is acked again."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 10 * stage.patience
    while (error := await fate(frontend.send(worker, within=1.0))) is not None:
        check(
            loop.time() < end,
            did=f"10 s after the other side was back, send still {told(error)}",
            wanted="it connects again by itself, soon",
            look="what is done with a connection that was lost: is it dropped, and a new one made?",
        )
        await asyncio.sleep(0.05)


async def closed(
    stage: RequestStage, *closing: Coroutine[Any, Any, None], look: str = "what they wait for"
) -> None:
    """Wait for these closes."""
    tasks = [asyncio.create_task(one) for one in closing]
    _, late = await asyncio.wait(tasks, timeout=_TAKES * stage.patience)
    places = "\n".join(line for task in late for line in waits_at(task))
    for task in late:
        task.cancel()
    check(
        not late,
        did=f"closing had not ended after {_TAKES * stage.patience:g} s; it waited at\n{places}",
        wanted="close, aclose and drain end, whatever the other side does",
        look=look,
    )
    for task in tasks:
        if (error := task.exception()) is not None:
            raise Nonconformance(
                f"closing raised {type(error).__name__}: {error}",
                "close, aclose and drain raise nothing, however often they are called",
                "the last lines of the traceback below that are your own",
            ) from error
