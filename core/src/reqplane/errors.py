"""Every error that Reqplane raises.

ReqplaneError
├── SettingsError            one error lists every bad variable
├── PluginError              PluginNotFound · PluginConflict · PluginBroken
├── RequestError             the request did not get through
│   ├── NoInstances              nobody to send it to
│   ├── NotDelivered             surely not accepted, safe to send again: CannotConnect · FrameTooLarge
│   ├── DeliveryUnknown          it may be running
│   ├── DeadlineExceeded         at any stage
│   └── RequestRefused           a worker said no: InvalidFrame · UnknownEndpoint · WrongInstance
│                                · WorkerDraining · WorkerBusy · NotAllowed
├── ResponseError            the request got through, the answer did not: HandlerFailed · StreamBroken
├── RequestBroken            for a handler: the rest of its request, which is a stream, does not come
├── WireError · PayloadError bytes that break the rules · values that can't be carried
└── DiscoveryError           DiscoveryUnavailable · LeaseLost

An error carries fields and builds its text from them when asked, so whoever catches one on its way up
can add what it knows (`error.request_id = …`).  The fields are as they came; the text has control
characters escaped, since much of it was sent by others.
"""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from reqplane.escaping import escaped, masked, masked_text


class ReqplaneError(Exception):
    """The root: catching it catches everything that Reqplane raises on purpose."""

    def __init__(self, problem: str = "") -> None:
        super().__init__(problem)
        self.problem = problem

    def summary(self) -> str:
        """The text without the fields that locate the error."""
        return self.problem

    def located(self) -> str:
        """The summary, with where it happened."""
        return self.summary()

    def __str__(self) -> str:
        return escaped(self.located())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.__dict__)


def _rebuild(cls: type[ReqplaneError], fields: dict[str, Any]) -> ReqplaneError:
    """Make an error again on the other side of a pickle, without calling its `__init__`."""
    error = cls.__new__(cls)
    error.__dict__.update(fields)
    return error


# ── set-up ──────────────────────────────────────────────────────────────────────────────────────────


class SettingsError(ReqplaneError):
    """Settings that can't be used.  `problems` has a (variable, value, what is wrong) for each.

    Users and passwords in URLs are not kept.
    """

    def __init__(self, problems: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        self.problems = [
            (variable, masked(value), masked_text(problem)) for variable, value, problem in problems
        ]

    def summary(self) -> str:
        lines = [f"{variable}={value!r}: {problem}" for variable, value, problem in self.problems]
        return lines[0] if len(lines) == 1 else "\n".join([f"{len(lines)} settings are wrong:", *lines])


class PluginError(ReqplaneError):
    """A plugin is missing or broken."""


class PluginNotFound(PluginError):
    """No installed plugin has the wanted name.

    `kind` is what was looked for ("request plane", "discovery backend", …), `hint` the line that cures it.
    """

    def __init__(self, kind: str, wanted: str, installed: Iterable[str], hint: str = "") -> None:
        super().__init__()
        self.kind, self.wanted, self.installed, self.hint = kind, wanted, sorted(installed), hint
        close = difflib.get_close_matches(wanted, self.installed, n=1)
        self.suggestion: str | None = close[0] if close else None

    def summary(self) -> str:
        text = f"there is no {self.kind} {self.wanted!r}"
        if self.suggestion:
            text += f", did you mean {self.suggestion!r}?"
        text += f" (installed: {', '.join(self.installed) or 'none'})"
        return f"{text}; {self.hint}" if self.hint else text


class PluginConflict(PluginError):
    """Two distributions claim one name."""

    def __init__(self, kind: str, name: str, distributions: Sequence[str]) -> None:
        super().__init__()
        self.kind, self.name, self.distributions = kind, name, list(distributions)

    def summary(self) -> str:
        claimants = " and ".join(self.distributions)
        return f"the {self.kind} {self.name!r} is claimed by {claimants}; uninstall all but one"


class PluginBroken(PluginError):
    """A plugin failed at `stage`: "import", "hooks", "contract", "open" or "pick".

    The cause is `__cause__`.
    """

    def __init__(self, name: str, distribution: str, stage: str, problem: str) -> None:
        super().__init__(problem)
        self.name, self.distribution, self.stage = name, distribution, stage

    def summary(self) -> str:
        return f"plugin {self.name!r} of {self.distribution} is broken at {self.stage}: {self.problem}"


# ── one call ────────────────────────────────────────────────────────────────────────────────────────


class _CallError(ReqplaneError):
    """What failed calls have in common: which request, to which endpoint, over what, to whom."""

    def __init__(
        self,
        problem: str = "",
        *,
        request_id: str | None = None,
        endpoint: str | None = None,
        transport: str | None = None,
        address: str | None = None,
        instance: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.request_id, self.endpoint, self.transport = request_id, endpoint, transport
        self.address, self.instance = address, instance
        self.tried: tuple[str, ...] = ()
        """The instances that were tried, where more than one was."""

    def locate(self, **fields: str | None) -> None:
        """Fill in the locating fields that are still unknown."""
        for name, value in fields.items():
            if getattr(self, name) is None:
                setattr(self, name, value)

    def located(self) -> str:
        where = [
            f"{name} {value}"
            for name, value in (
                ("endpoint", self.endpoint),
                ("instance", self.instance),
                ("plane", self.transport),
                ("request", self.request_id),
            )
            if value is not None
        ]
        text = self.summary()
        if self.tried:
            text += f"; tried {', '.join(self.tried)}"
        return f"{text} ({', '.join(where)})" if where else text


class RequestError(_CallError):
    """The request did not get through, or nobody knows whether it did."""


class NoInstances(RequestError):
    """Discovery holds no worker of this endpoint that this process can use.

    `planes` are the planes of this process, `where` is where it looks.  `unusable` says of workers that
    there are why they can't be used: {why: how many}.  `others` are the endpoints that there are instead.
    `wanted` is the number of a worker that was asked for, `present` the numbers that there are.  `installs`
    says what to type for planes that are not installed here: {plane: line}.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        planes: Sequence[str],
        where: str = "discovery",
        unusable: Mapping[str, int] | None = None,
        others: Sequence[str] = (),
        wanted: int | None = None,
        present: Sequence[int] = (),
        installs: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(endpoint=endpoint, **fields)
        self.installs = dict(installs or {})
        self.planes, self.where, self.unusable = tuple(planes), where, dict(unusable or {})
        self.others, self.wanted, self.present = list(others), wanted, list(present)

    def summary(self) -> str:
        text = f"No instances found for {self.endpoint}"
        there = ", ".join(f"{count} {why}" for why, count in sorted(self.unusable.items()))
        ours = ",".join(self.planes)
        if self.wanted is not None and self.present:
            text += f" with the id {self.wanted}; the ids are {', '.join(map(str, self.present))}"
            return (
                f"{text}, and there are {there}, which this process, on {ours}, can't use" if there else text
            )
        if there:
            return f"{text} that this process can use, which is on {ours}: there are {there}{self._cure()}"
        text += f": no worker of it is registered in {self.where}"
        close = difflib.get_close_matches(str(self.endpoint), self.others, n=1)
        if close:
            return f"{text}; did you mean {close[0]}?"
        return f"{text}, which has {', '.join(self.others[:5])}" if self.others else text

    def _cure(self) -> str:
        """Which planes to use here: one of each worker that is elsewhere."""
        chosen = list(dict.fromkeys(map(self._easiest, self._elsewhere())))
        if not chosen:
            return ""
        value, ours = ",".join(chosen), ",".join(self.planes)
        installs = [self.installs[plane] for plane in chosen if plane in self.installs]
        text = "; " + "".join(f"{line}, then " for line in installs) + f"set DYN_REQUEST_PLANE={value} here"
        return f"{text} (or {value},{ours}), or DYN_REQUEST_PLANE={ours} at the workers" if ours else text

    def _elsewhere(self) -> list[list[str]]:
        """The planes of the workers that only have others than this process; the most workers first."""
        counts = sorted(self.unusable.items(), key=lambda item: (-item[1], item[0]))
        places = [why.removeprefix("on ") for why, _ in counts if why.startswith("on ")]
        return [place.split(",") for place in places if " " not in place]

    def _easiest(self, planes: Sequence[str]) -> str:
        """Of a worker's planes the first that is installed here."""
        return next((plane for plane in planes if plane not in self.installs), planes[0])


class NotDelivered(RequestError):
    """No worker has accepted the request, surely: it is safe to send it again."""


class CannotConnect(NotDelivered):
    """The worker at `address` could not be reached."""

    by_worker = True
    """Whether that tells of this worker; False: of a broker on the way, which no request gets past."""

    def summary(self) -> str:
        return f"cannot connect to {self.address}: {self.problem}"


class FrameTooLarge(NotDelivered):
    """The frame has `size` bytes, `limit` are allowed; `problem` names the limit and how to raise it.

    `limit` is None where somebody on the way refused it without saying how much would do.
    """

    def __init__(self, size: int, limit: int | None, problem: str = "", **fields: Any) -> None:
        super().__init__(problem, **fields)
        self.size, self.limit = size, limit

    def summary(self) -> str:
        text = f"the frame has {self.size} bytes, "
        text += "too many" if self.limit is None else f"at most {self.limit} are allowed"
        return f"{text}: {self.problem}" if self.problem else text


DeliveryReason = Literal["timed_out", "connection_lost", "gateway", "never_called_home"]


class DeliveryUnknown(RequestError):
    """The request was sent and nobody can say whether a worker runs it."""

    def __init__(
        self, reason: DeliveryReason, problem: str = "", *, status: int | None = None, **fields: Any
    ) -> None:
        super().__init__(problem, **fields)
        self.reason, self.status = reason, status

    def summary(self) -> str:
        return f"the request may have been delivered ({self.reason}): {self.problem}"


class DeadlineExceeded(RequestError):
    """The call's deadline passed; `stage` is what it was waiting for."""

    def __init__(self, stage: str, problem: str = "", *, items_received: int = 0, **fields: Any) -> None:
        super().__init__(problem, **fields)
        self.stage, self.items_received = stage, items_received

    def summary(self) -> str:
        text = f"the deadline passed while waiting for {self.stage}"
        return f"{text} ({self.items_received} items received)" if self.items_received else text


class RequestRefused(RequestError):
    """A worker looked at the request and said no.

    `code` travels on the wire; `retry_elsewhere` says whether another instance may say yes.  A code that
    this version does not know stays a plain RequestRefused.
    """

    code: str = "refused"
    retry_elsewhere: bool = False

    def summary(self) -> str:
        return f"the worker refused the request ({self.code}): {self.problem}"


class InvalidFrame(RequestRefused):
    """The bytes are not a request frame."""

    code = "invalid_frame"

    def summary(self) -> str:
        return f"Two Part Codec Error: Invalid message: {self.problem}"


class UnknownEndpoint(RequestRefused):
    """The process that was asked does not serve this endpoint."""

    code = "unknown_endpoint"
    retry_elsewhere = True


class WrongInstance(RequestRefused):
    """The request is for one certain instance, and this process is another."""

    code = "wrong_instance"
    retry_elsewhere = True


class WorkerDraining(RequestRefused):
    """The worker is leaving and takes nothing new."""

    code = "draining"
    retry_elsewhere = True


class WorkerBusy(RequestRefused):
    """The worker has as much to do as it may have; or all `workers` have, so that nobody was asked."""

    code = "busy"
    retry_elsewhere = True

    def __init__(self, problem: str = "", *, workers: int | None = None, **fields: Any) -> None:
        super().__init__(problem, **fields)
        self.workers = workers

    def summary(self) -> str:
        if self.workers is None:
            return super().summary()
        who = "the only worker is" if self.workers == 1 else f"all {self.workers} workers are"
        return f"{who} busy: {self.problem}"


class NotAllowed(RequestRefused):
    """The worker's rules forbid the request, for instance its response address."""

    code = "not_allowed"


_REFUSALS: dict[str, type[RequestRefused]] = {
    cls.code: cls
    for cls in (InvalidFrame, UnknownEndpoint, WrongInstance, WorkerDraining, WorkerBusy, NotAllowed)
}


def refusal(code: str, problem: str, **fields: Any) -> RequestRefused:
    """The error for a refusal as it came over the wire; `fields` as RequestError's."""
    cls = _REFUSALS.get(code)
    if cls is not None:
        return cls(problem, **fields)
    error = RequestRefused(problem, **fields)
    error.code = code
    return error


class ResponseError(_CallError):
    """A worker took the request, and the answer did not come whole."""

    items_received: int = 0


class HandlerFailed(ResponseError):
    """The handler raised.

    `error_type` is the exception's name where the worker told it, `detail` all that it told: the members of
    the error item (reqplane.wire.failure).  It is empty where the handler could not be started.
    """

    def __init__(
        self,
        problem: str,
        *,
        error_type: str | None = None,
        items_received: int = 0,
        detail: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(problem, **fields)
        self.error_type, self.items_received = error_type, items_received
        self.detail: Mapping[str, Any] = detail or {}

    def summary(self) -> str:
        text = f"the handler failed: {self.problem}"
        return f"{text} (after {self.items_received} items)" if self.items_received else text


class StreamBroken(ResponseError):
    """The answer's stream ended before its end marker; `items_received` came before that."""

    def __init__(self, problem: str, *, items_received: int = 0, **fields: Any) -> None:
        super().__init__(problem, **fields)
        self.items_received = items_received

    def summary(self) -> str:
        return f"the response stream broke after {self.items_received} items: {self.problem}"


class RequestBroken(ReqplaneError):
    """The request, which is a stream, broke off before its end: what a handler gets that goes on reading it.

    `items_received` came before that.
    """

    def __init__(self, problem: str, *, items_received: int = 0) -> None:
        super().__init__(problem)
        self.items_received = items_received

    def summary(self) -> str:
        return f"the request broke off after {self.items_received} items: {self.problem}"


# ── bytes and values ────────────────────────────────────────────────────────────────────────────────


class WireError(ReqplaneError):
    """Bytes that break the rules of the wire."""


class PayloadError(ReqplaneError):
    """A value that its codec can't carry.

    `index` counts the answer's items from 0, or with `in_request` those of a request that is a stream; None =
    the request.
    """

    def __init__(
        self,
        problem: str,
        *,
        index: int | None = None,
        in_request: bool = False,
        request_id: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.index, self.in_request, self.request_id = index, in_request, request_id

    def summary(self) -> str:
        whole = "request" if self.in_request or self.index is None else "answer"
        what = f"the {whole}" if self.index is None else f"item {self.index} of the {whole}"
        return f"{what} can't be carried: {self.problem}"


# ── discovery ───────────────────────────────────────────────────────────────────────────────────────


class DiscoveryError(ReqplaneError):
    """Workers can't be registered or found."""


class DiscoveryUnavailable(DiscoveryError):
    """The backend can't be reached or used."""


class LeaseLost(DiscoveryError):
    """A registration ended without being withdrawn."""


def describe(error: BaseException) -> str:
    """A foreign error in a few words, the same for the same cause; never empty."""
    resolver = isinstance(error, socket.gaierror)  # has numbers of its own
    if isinstance(error, OSError) and not resolver and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
