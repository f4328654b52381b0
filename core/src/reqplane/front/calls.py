"""One call by HTTP: its status waits for the first item, and it ends when the client hangs up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

from reqplane.client import Client
from reqplane.context import Context
from reqplane.front.exchange import Exchange
from reqplane.front.incoming import Options
from reqplane.front.problems import Problem
from reqplane.stream import Stream

_NONE = object()

_ABOUT = (
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy hands items on as they come
)


class Call:
    """One call of one client."""

    def __init__(self, client: Client, request: Any, context: Context, options: Options) -> None:
        if options.instance is None and client.router_mode == "direct":
            words = "DYN_ROUTER_MODE is direct: say which worker is meant, by ?instance=ID"
            raise Problem(HTTPStatus.BAD_REQUEST, "BadRequest", words)
        self._client = client
        self._request = request
        self._context = context
        self._options = options

    def _stream(self) -> Stream:
        request, self._request = self._request, None  # held no longer than it must be
        context, timeout = self._context, self._options.timeout
        if self._options.instance is None:
            return self._client.generate(request, context=context, timeout=timeout)
        return self._client.direct(request, self._options.instance, context=context, timeout=timeout)

    async def answer(
        self, exchange: Exchange, accepted: Callable[[], None], came: Callable[[str, float], None]
    ) -> None:
        """Write the answer whole, or raise why not.

        `accepted` is called once a worker has the request, `came` with the seconds that the first item took.
        """
        begin = time.perf_counter()
        async with self._stream() as stream:
            accepted()
            async with aclosing(aiter(stream)) as items:
                first = await anext(items, _NONE)
                came(self._client.path, time.perf_counter() - begin)
                await self._write(exchange, first, items)

    async def _write(self, exchange: Exchange, first: Any, items: AsyncIterator[Any]) -> None:
        form, count = self._options.form, 0
        if first is not _NONE:
            line = form.item(first, 0)  # before the status: it may not be JSON
            await exchange.begin(200, form.content_type, _ABOUT)
            await exchange.write(line)
            count = 1
            async for item in items:
                await exchange.write(form.item(item, count))
                count += 1
        else:
            await exchange.begin(200, form.content_type, _ABOUT)
        await exchange.write(form.end(count), more=False)
