"""What every case acts on: opened subjects, each on a host of its own, all closed afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, ClassVar, NoReturn

import pytest
from reqplane.model import Limits

from reqplane_conformance.case import Case, SetAside
from reqplane_conformance.host import SuiteHost
from reqplane_conformance.running import run_case
from reqplane_conformance.strain import Strain
from reqplane_conformance.unwritten import noticing_unwritten
from reqplane_conformance.verdict import OPEN, Nonconformance, check


class NotExercised(Exception):
    """A case can't run here, for a reason that the table shows."""


class DoesNotApply(Exception):
    """A case has nothing to do with this subject, for a reason that the table shows."""


class Stage:
    """Opens subjects and closes them."""

    leftover_case: ClassVar[str] = ""
    """The case that is about what is left over."""

    def __init__(self, subject: type[Any], suite: Any, env: Mapping[str, str], strain: Strain) -> None:
        self.subject, self.suite, self.strain = subject, suite, strain
        loopback: Mapping[str, str] = getattr(subject, "loopback", {})
        self.env = {**loopback, **os.environ, **env}
        self.restart_command = self.put_command = ""
        self.ran = False
        self._stack = AsyncExitStack()
        self._not_opened: Exception | None = None

    @property
    def patience(self) -> float:
        """What time limits are multiplied by: 1 on a machine that has nothing else to do."""
        return self.strain.patience

    @property
    def capabilities(self) -> Any:
        return getattr(self.subject, "capabilities", None)

    def run(self, case: Case, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a case, unless a capability that it needs is not claimed."""
        __tracebackhide__ = True
        check(
            dataclasses.is_dataclass(self.capabilities) and not isinstance(self.capabilities, type),
            did=f"its `capabilities` is {self.capabilities!r}",
            wanted="an object of the class that its interface names: what it promises, and what it does not",
            look="the class's attribute `capabilities`",
            blame="capabilities",
        )
        missing = [name for name in case.needs if not getattr(self.capabilities, name, False)]
        if missing:
            pytest.skip(f"not claimed: {', '.join(missing)}")
        try:
            with noticing_unwritten():
                run_case(case, work, self)
            self.ran = True
        except NotExercised as reason:
            pytest.skip(f"not exercised: {reason}")
        except DoesNotApply as reason:
            raise SetAside(f"does not apply: {reason}") from None
        except Nonconformance:
            raise
        except asyncio.CancelledError as error:
            raise Nonconformance(
                "CancelledError came out, in the middle of the case, and the case had not been cancelled",
                f"only who is cancelled gets a CancelledError: {case.sentence}",
                "tasks and futures that are cancelled while a method of yours waits for them; the traceback",
            ) from error
        except Exception as error:
            if error is self._not_opened:
                raise Nonconformance(
                    f"open raised {type(error).__name__}: {error}",
                    "open returns what is ready to be used",
                    "the last lines of the traceback that are your own, and the variables that open reads",
                    blame=OPEN,
                ) from error
            did = f"{type(error).__name__} came out, in the middle of the case: {error}"
            raise Nonconformance(did, f"nothing fails here: {case.sentence}", "the traceback") from error

    def not_exercised(self, reason: str) -> NoReturn:
        """End the case without a verdict: the capability counts as claimed, but not shown."""
        raise NotExercised(reason)

    def does_not_apply(self, reason: str) -> NoReturn:
        """End the case without a verdict: it is about something that such a subject does not have."""
        raise DoesNotApply(reason)

    async def open(self, env: Mapping[str, str] | None = None, **limits: Any) -> tuple[Any, SuiteHost]:
        """Open the subject as in a process of its own; `env` on top of what all have."""
        host = SuiteHost({**self.env, **(env or {})}, Limits(**limits))
        self._stack.push_async_callback(host.aclose)
        try:
            opened = await self.subject.open(host)
        except Exception as error:
            self._not_opened = error
            raise
        self._stack.push_async_callback(self._close, opened, host)
        return opened, host

    async def close(self, opened: Any) -> None:
        """Close what was opened."""
        try:
            await opened.aclose()
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # it took too long
                raise
            raise Nonconformance(
                f"aclose raised {type(error).__name__}: {error}",
                "aclose frees everything and raises nothing, however often it is called",
                "the last lines of the traceback below that are your own",
                blame=self.leftover_case,
            ) from error

    async def _close(self, opened: Any, host: SuiteHost) -> None:
        await self.close(opened)
        check(
            host.inflight.used == 0,
            did=f"{host.inflight.used} bytes were still taken from Host.inflight after aclose",
            wanted="all that was taken with Host.inflight.take is given back, however a request ends",
            look="the path of a frame whose sender disappears, or whose accept raises",
            blame=self.leftover_case,
        )
        timers = sum(map(len, host.timers._buckets.values()))
        check(
            timers == 0,
            did=f"{timers} timers of Host.timers were still set after aclose",
            wanted="every timer is cancelled or has fired by then",
            look="what calls Host.timers.at, and the ends of what it guards",
            blame=self.leftover_case,
        )

    async def restart_by_command(self) -> None:
        """Run what --restart-peer says."""
        command = self.restart_command
        if not command:
            self.not_exercised("nothing says how to restart the server: see restart_peer and --restart-peer")
        process = await asyncio.create_subprocess_shell(command)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 60)

    def push(self, closing: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Await this when the case is over; the last one first."""
        self._stack.push_async_callback(closing)

    async def aclose(self) -> None:
        await self._stack.aclose()


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def at_one_port(loopback: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """Variables by which a subject listens at one certain port, each time that it is opened with them.

    A variable of `loopback` whose name ends with PORT and whose value is 0, any free one, gets a number.
    """
    merged = {**loopback, **env}
    return {
        name: str(free_port())
        for name, value in loopback.items()
        if name.endswith("PORT") and merged[name] == value == "0"
    }


__all__ = ["NotExercised", "Nonconformance", "Stage", "at_one_port", "free_port"]
