"""A client waits for discovery's first listing, and no longer than discovery tries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from reqplane import DiscoveryUnavailable, EndpointId
from reqplane.host import RuntimeHost
from reqplane.instances import InstanceTable
from reqplane.model import Change, Limits

ENDPOINT = EndpointId("ns", "comp", "ep")


class Moody:
    """Discovery whose attempts go as the test says."""

    place = "nowhere"

    def __init__(self, *attempts: Exception | None) -> None:
        self.attempts = list(attempts)

    async def watch(self, endpoint: EndpointId | None) -> AsyncIterator[list[Change]]:
        attempt = self.attempts.pop(0)
        await asyncio.sleep(0.02)
        if attempt is not None:
            raise attempt
        yield []
        await asyncio.Event().wait()


@pytest.fixture
async def host() -> AsyncIterator[RuntimeHost]:
    host = RuntimeHost({}, Limits())
    yield host
    await host.aclose()


def table(host: RuntimeHost, *attempts: Exception | None) -> InstanceTable:
    made = InstanceTable(ENDPOINT, Moody(*attempts), [], {}, host.timers)  # type: ignore[arg-type]
    host.spawn(made.follow(), "follows")
    return made


async def test_an_attempt_that_fails_is_told_and_the_next_one_waited_for(host: RuntimeHost) -> None:
    workers = table(host, DiscoveryUnavailable("not there"), None)
    with pytest.raises(DiscoveryUnavailable, match="not there"):
        await workers.listed()
    await workers.listed()
    assert workers.instances() == []


async def test_a_backend_that_breaks_its_contract_is_told_in_our_words(host: RuntimeHost) -> None:
    workers = table(host, KeyError("oops"), None)
    with pytest.raises(DiscoveryUnavailable, match="nowhere failed: 'oops'"):
        await workers.listed()


async def test_everybody_who_waits_is_told(host: RuntimeHost) -> None:
    workers = table(host, DiscoveryUnavailable("not there"), None)
    outcomes = await asyncio.gather(workers.listed(), workers.listed(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DiscoveryUnavailable] * 2
