"""Workers in a table of SQLite that all processes of a machine see; watchers look 20 times a second."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from typing import Any, Self

from reqplane import DiscoveryUnavailable
from reqplane.interfaces import Discovery, Host, Registration
from reqplane.model import Change, EndpointId
from reqplane.settings import load, setting, settings_class, text
from reqplane.wire.records import encode_record, guide_key, parse_record

_PAUSE = 0.05
_TABLE = "create table if not exists workers (path text, id integer, record blob, primary key (path, id))"


@settings_class
class SqliteSettings:
    file: str = setting("OUTSIDE_SQLITE_FILE", default="", parse=text)


class SqliteRegistration(Registration):
    def __init__(self, table: SqliteDiscovery, endpoint: EndpointId) -> None:
        self._table = table
        self._endpoint = endpoint
        self._taken = False
        self._take()

    def _take(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self.instance_id = self._table.take(self._endpoint)
        self._taken = True

    async def publish(self, record: Mapping[str, Any]) -> None:
        self._table.write(
            "update workers set record = ? where path = ? and id = ?",
            (encode_record(record), str(self._endpoint), self.instance_id),
        )

    async def withdraw(self) -> None:
        if self._taken:
            self._taken = False
            delete = "delete from workers where path = ? and id = ?"
            self._table.write(delete, (str(self._endpoint), self.instance_id))

    async def renew(self) -> None:
        self._take()


class SqliteDiscovery(Discovery):
    name = "sqlite"
    settings = SqliteSettings

    def __init__(self, file: str) -> None:
        self.where = f"the database {file}"
        self._file = file
        self._closed = False
        self._registrations: list[SqliteRegistration] = []
        self.write(_TABLE)

    @classmethod
    async def open(cls, host: Host) -> Self:
        file = load(SqliteSettings, host.env).file
        try:
            return cls(file)
        except sqlite3.Error as error:
            raise DiscoveryUnavailable(f"OUTSIDE_SQLITE_FILE={file!r}: {error}") from error

    def write(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        with closing(sqlite3.connect(self._file)) as database, database:
            database.execute(statement, values)

    def take(self, endpoint: EndpointId) -> int:
        """The lowest free number."""
        with closing(sqlite3.connect(self._file, isolation_level=None)) as database:
            database.execute("begin immediate")
            rows = database.execute("select id from workers where path = ?", (str(endpoint),))
            taken = {number for (number,) in rows}
            number = next(number for number in range(len(taken) + 1) if number not in taken)
            database.execute("insert into workers values (?, ?, null)", (str(endpoint), number))
            database.execute("commit")
        return number

    async def reserve(self, endpoint: EndpointId, incarnation: int) -> Registration:
        registration = SqliteRegistration(self, endpoint)
        self._registrations.append(registration)
        return registration

    async def watch(self, endpoint: EndpointId | None) -> AsyncIterator[list[Change]]:
        known: dict[str, tuple[bytes, Change]] = {}
        listed = False
        while not self._closed:
            found = self._records(endpoint)
            gone = [Change(known.pop(key)[1].instance, up=False) for key in known.keys() - found.keys()]
            came: list[Change] = []
            for key, record in found.items():
                if key not in known or known[key][0] != record:
                    known[key] = record, Change(parse_record(key, record), up=True)
                    came.append(known[key][1])
            if gone or came or not listed:  # the listing is told even if it is empty
                listed = True
                yield gone + came
            await asyncio.sleep(_PAUSE)

    def _records(self, endpoint: EndpointId | None) -> dict[str, bytes]:
        with closing(sqlite3.connect(self._file)) as database:
            rows = database.execute("select path, id, record from workers where record is not null")
            return {
                guide_key(EndpointId.parse(path), number): record
                for path, number, record in rows
                if endpoint is None or path == str(endpoint)
            }

    async def aclose(self) -> None:
        self._closed = True
        for registration in self._registrations:
            await registration.withdraw()
