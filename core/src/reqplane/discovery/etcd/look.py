"""A look at each member by itself, for those who look for a fault."""

from __future__ import annotations

import asyncio

from reqplane.discovery.etcd.client import CALL_LIMIT, EtcdClient
from reqplane.discovery.etcd.seam import EtcdError, Listing
from reqplane.discovery.etcd.settings import Address, EtcdSettings
from reqplane.model import Diagnosis
from reqplane.wire.records import PREFIX


async def diagnose(settings: EtcdSettings) -> list[Diagnosis]:
    """Whether the members answer, and what they hold.  One that answers is enough."""
    found = await asyncio.gather(*(asyncio.to_thread(_ask, one, settings) for one in settings.endpoints))
    members = dict(zip(settings.endpoints, found, strict=True))
    answered = [
        _answered(address, what, settings) for address, what in members.items() if isinstance(what, Listing)
    ]
    failed = {address: what for address, what in members.items() if isinstance(what, str)}
    told = [f"etcd at {address} can't be used: {why}" for address, why in failed.items()]
    if answered:
        return [*answered, *(Diagnosis("note", f"{why}; another member answers") for why in told)]
    endpoints = ",".join(map(str, settings.endpoints))
    remedy = (
        f"start it (`etcd`), or set ETCD_ENDPOINTS to where it is; "
        f"`etcdctl --endpoints={endpoints} endpoint health` asks whether it runs"
    )
    return [Diagnosis("WRONG", "; ".join(told), remedy)]


def _ask(address: Address, settings: EtcdSettings) -> Listing | str:
    """Blocks."""
    client = None
    try:
        client = EtcdClient(address, settings, CALL_LIMIT, is_curious=True)
        client.connect()
        return client.list(PREFIX)
    except EtcdError as error:
        return error.reason
    finally:
        if client is not None:
            client.close()
            client.join(0.5)


def _answered(address: Address, listing: Listing, settings: EtcdSettings) -> Diagnosis:
    count = len(listing.entries)
    keys = f"{count} key{'' if count == 1 else 's'} below {PREFIX}"
    return Diagnosis(
        "ok",
        f"etcd at {address} answers, with {keys} (`etcdctl --endpoints={address} get --prefix {PREFIX}` "
        f"shows them); a worker that dies is gone after {settings.ttl} s",
    )
