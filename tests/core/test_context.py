"""A call's context."""

from __future__ import annotations

import asyncio
import os
import uuid

from reqplane.context import Context
from reqplane.model import Control


def test_ids_are_uuids_and_all_different() -> None:
    ids = [Context().id for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(uuid.UUID(one).version == 4 for one in ids)


def test_a_forked_child_draws_other_ids() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, Context().id.encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert theirs not in {Context().id for _ in range(3)}
    assert theirs[:8] != Context().id[:8]


async def test_stopping_wakes_who_waits_and_tells_who_follows_once_each() -> None:
    context = Context()
    told: list[Control] = []
    context.follow(told.append)
    waiting = asyncio.ensure_future(context.stopped())
    await asyncio.sleep(0)
    context.stop_generating()
    context.stop_generating()
    await asyncio.wait_for(waiting, 1)
    assert (context.is_stopped(), context.is_killed(), told) == (True, False, [Control.STOP])
    context.kill()
    assert (context.is_killed(), told) == (True, [Control.STOP, Control.KILL])
    await context.stopped()


def test_who_follows_later_is_told_at_once_and_who_unfollows_not_at_all() -> None:
    context = Context()
    first: list[Control] = []
    late: list[Control] = []
    context.follow(first.append)
    context.unfollow(first.append)
    context.kill()
    context.follow(late.append)
    assert (first, late) == ([], [Control.KILL])
