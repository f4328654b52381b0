"""A worker's no comes back as what it is, and the listener lives on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import NoReturn

import pytest
from reqplane.errors import (
    CannotConnect,
    DeliveryUnknown,
    FrameTooLarge,
    RequestRefused,
    UnknownEndpoint,
    WorkerBusy,
    refusal,
)
from reqplane.interfaces import Delivery
from reqplane.wire.frame import Frame, split

from reqplane_conformance.case import case
from reqplane_conformance.request.delivery import check_each_once
from reqplane_conformance.request.frames import check_arrived
from reqplane_conformance.request.hooks import RequestSuite
from reqplane_conformance.request.stage import RequestStage, Worker
from reqplane_conformance.verdict import Nonconformance, check, expected

_CODES = ("invalid_frame", "unknown_endpoint", "wrong_instance", "draining", "busy", "not_allowed", "refused")
_BROKEN: Mapping[str, Callable[[], BaseException]] = {
    "RuntimeError": lambda: RuntimeError("a defect"),
    "KeyError": lambda: KeyError("a defect"),
    "TimeoutError": lambda: TimeoutError("a defect"),
    "ConnectionResetError": lambda: ConnectionResetError("a defect"),
    "IncompleteReadError": lambda: asyncio.IncompleteReadError(b"", 8),
    "CancelledError": asyncio.CancelledError,
}
"""Among them what a listener's own reading raises."""
_ODD_TEXTS = (
    "",
    "short",
    "'single' and \"double\" quotes and a \\",
    "two\r\nlines\r\nx-reqplane-refusal: draining\r\n\r\n",
    "a tab\t, a zero\0, an escape \x1b[31m",
    "naïve 日本語 🚰",
    "long " * 4000,
)
_UNCERTAIN = (RequestRefused, DeliveryUnknown)
_REFUSING = "the listener's code around `accept(delivery)`: what it does with RequestRefused, and the rest"
_READING = "`send`, where it makes an error of what came back: reqplane.errors.refusal(code, text)"


class RefusalCases(RequestSuite, suite=True):
    """Refusals."""

    group = "refusals"

    @case(priority=4)
    async def test_a_refusal_is_no_ack(self, stage: RequestStage) -> None:
        """What accept refused is never told as delivered, nor as if nobody had been reached."""
        frontend, worker = await stage.frontend(), await stage.worker()
        for number, code in enumerate(_CODES):
            worker.refuse = refusal(code, "the reason")
            with expected(*_UNCERTAIN, when="where accept raised RequestRefused", look=_REFUSING):
                await frontend.send(worker)
            worker.refuse = None
            frame = await frontend.deliver(worker, when="after one that was refused", look=_REFUSING)
            check_arrived(worker, frame)
            check_each_once(worker.frames[number:], [frame])

    @pytest.mark.parametrize("error", _BROKEN)
    @case(priority=4)
    async def test_an_exception_in_accept(self, stage: RequestStage, error: str) -> None:
        """Whatever accept raises, the sender gets an error that says so and the listener lives on."""
        frontend, worker = await stage.frontend(), await stage.worker()
        await frontend.deliver(worker)
        worker.refuse = _BROKEN[error]()
        when = f"where accept raised {error}"
        for _ in range(3):
            with expected(*_UNCERTAIN, when=when, look=_REFUSING):
                await frontend.send(worker)
        worker.refuse = None
        after = f"after accept raised {error}"
        check_arrived(worker, await frontend.deliver(worker, when=after, look=_REFUSING))

    @case(priority=4)
    async def test_not_asked_again(self, stage: RequestStage) -> None:
        """A refused frame is not handed to accept again: whether to ask once more is for the core to say."""
        frontend, worker = await stage.frontend(), await stage.worker()
        asked: list[str] = []

        def no(delivery: Delivery) -> NoReturn:
            asked.append(str(delivery.plane))
            raise WorkerBusy("not now")

        worker.on_accept = no
        with expected(*_UNCERTAIN, when="where accept raised WorkerBusy", look=_REFUSING):
            await frontend.send(worker)
        worker.on_accept = None
        await frontend.deliver(worker)
        check(
            len(asked) == 1,
            did=f"accept was called {len(asked)} times for one frame, which it refused each time",
            wanted="once",
            look="what sends again by itself after an error: a library's retries, a broker's nak",
        )

    @case()
    async def test_an_endpoint_that_is_gone(self, stage: RequestStage) -> None:
        """A frame for an endpoint that its process has ceased to serve is not accepted by another one."""
        frontend, stays = await stage.frontend(), await stage.worker("conformance.backend.stays")
        gone = await stage.worker("conformance.backend.gone", beside=stays)
        for worker in (stays, gone):
            await frontend.deliver(worker)
        await gone.listener.close()
        kinds = (CannotConnect, UnknownEndpoint)
        if not stage.capabilities.refusals:
            kinds = (*kinds, *_UNCERTAIN)
        look = "how the listener finds the accept of a frame, and what it answers where there is none"
        with expected(*kinds, when="for an endpoint that the process has ceased to serve", look=look):
            await frontend.send(gone)
        check_arrived(stays, await frontend.deliver(stays, when="by the endpoint that stays", look=look))
        check(
            (len(stays.got), len(gone.got)) == (2, 1),
            did=f"the endpoint that stayed accepted {len(stays.got)} frames, the other {len(gone.got)}",
            wanted="2 and 1: what is for the one is never handed to the other",
            look=look,
        )

    # ── with their codes ──

    @pytest.mark.parametrize("code", [*_CODES, "moon_phase"])
    @case(needs=("refusals",), priority=4)
    async def test_code_and_text(self, stage: RequestStage, code: str) -> None:
        """A refusal arrives with its class, its code, also one that nobody knows, and its text."""
        worker = await stage.worker()
        text = "there are 7 of them: ask the next one"
        worker.refuse = refusal(code, text)
        error = await self._refused(stage, worker, f"where accept raised the refusal {code!r}")
        check(
            type(error) is type(worker.refuse) and error.code == code,
            did=f"accept raised {type(worker.refuse).__name__} ({code}), send {type(error).__name__} "
            f"({error.code}): {error}",
            wanted="the same: the core goes by it when it asks another worker",
            look=_READING,
        )
        check(
            str(error).count(text) == 1,
            did=f"the refusal's text {text!r} became {error.problem!r:.300}, shown as {str(error)!r:.300}",
            wanted="the text, once: it is what the caller reads",
            look=f"{_READING}; what travels is `error.problem`, or `error.summary()` without its beginning",
        )

    @pytest.mark.parametrize("text", _ODD_TEXTS, ids=range(len(_ODD_TEXTS)))
    @case(needs=("refusals",))
    async def test_odd_texts(self, stage: RequestStage, text: str) -> None:
        """A refusal keeps its code whatever its text is; the text may be cut or escaped."""
        frontend, worker = await stage.frontend(), await stage.worker()
        worker.refuse = WorkerBusy(f"because {text}")
        when = f"where the refusal's text is {text!r:.80}"
        error = await self._refused(stage, worker, when)
        check(
            isinstance(error, WorkerBusy) and "because" in str(error),
            did=f"WorkerBusy with the text {text!r:.80} became {type(error).__name__}: {str(error)!r:.300}",
            wanted="WorkerBusy, and as much of the text as can be carried",
            look=f"how a refusal is written, and {_READING}",
        )
        worker.refuse = None
        check_arrived(worker, await frontend.deliver(worker, when=f"after a refusal {when}", look=_REFUSING))

    @pytest.mark.parametrize("error", _BROKEN)
    @case(needs=("refusals",))
    async def test_an_exception_is_a_refusal(self, stage: RequestStage, error: str) -> None:
        """What accept raises beside RequestRefused arrives as a plain refusal, which nobody retries."""
        worker = await stage.worker()
        worker.refuse = _BROKEN[error]()
        refused = await self._refused(stage, worker, f"where accept raised {error}")
        check(
            not refused.retry_elsewhere,
            did=f"{error} in accept became {type(refused).__name__} ({refused.code})",
            wanted='a refusal with the code "refused": the same frame may break the next worker as well',
            look=_REFUSING,
        )

    @case(needs=("refusals",))
    async def test_comes_back_however_late(self, stage: RequestStage) -> None:
        """A refusal for which accept takes its time arrives as such, not as a time-out."""
        worker, frontend = await stage.outside(), await stage.frontend()
        await worker.do("takes", seconds=1.2)
        await worker.do("refuse", code="busy", text="after a while")
        with expected(WorkerBusy, when="where accept refused after 1.2 s", look=_READING):
            await frontend.send(worker)

    @case(needs=("refusals",))
    async def test_each_gets_its_own(self, stage: RequestStage) -> None:
        """Of frames that are sent at once some are refused, each with its own code, and the rest accepted."""
        frontend, worker = await stage.frontend(), await stage.worker()
        worker.on_accept = _as_it_says(worker)
        codes = [("", "busy", "", "draining", "")[number % 5] for number in range(64)]
        frames = [stage.frame(refuse=code) for code in codes]
        sends = [frontend.send(worker, Frame(frame.header, frame.body)) for frame in frames]
        fates = await asyncio.gather(*sends, return_exceptions=True)
        for code, fate in zip(codes, fates, strict=True):
            if isinstance(fate, Nonconformance):
                raise fate
            got = fate.code if isinstance(fate, RequestRefused) else fate and f"{type(fate).__name__}: {fate}"
            was = f"refused as {code}" if code else "accepted"
            check(
                got == (code or None),
                did=f"a frame that was {was} among others was told {got}",
                wanted="each send learns the fate of its own frame",
                look="how an answer finds the send that it belongs to",
            )
        check_each_once(worker.frames, [frame for frame, code in zip(frames, codes, strict=True) if not code])

    @case(needs=("refusals",))
    async def test_while_draining(self, stage: RequestStage) -> None:
        """A listener that was drained goes on handing frames to accept, whose refusal says why."""
        frontend, worker = await stage.frontend(), await stage.worker()
        await frontend.deliver(worker)
        worker.refuse = refusal("draining", "the worker is leaving")
        await worker.listener.drain()
        error = await self._refused(stage, worker, "after `drain`, where accept refuses everything")
        check(
            error.code == "draining",
            did=f"a drained listener answered {error.code!r}: {error}",
            wanted="'draining', which accept said",
            look="`drain`: it waits for acks, and leaves the listener open",
        )

    @case(needs=("refusals",))
    async def test_too_large_for_the_worker(self, stage: RequestStage) -> None:
        """A frame that is a little larger than its worker takes is answered, not broken off."""
        frontend, worker = await stage.frontend(), await stage.worker(max_frame_bytes=10_000)
        look = "the listener, where a frame is too large: read it to its end, and answer"
        with expected(
            RequestRefused, FrameTooLarge, when="for 12 kB to a worker that takes 10 kB", look=look
        ):
            await frontend.send(worker, stage.frame(bytes(12_000)))

    async def _refused(self, stage: RequestStage, worker: Worker, when: str) -> RequestRefused:
        """Send what the worker refuses; the error that it becomes."""
        __tracebackhide__ = True
        frontend = await stage.frontend()
        with expected(RequestRefused, when=when, look=f"{_REFUSING}; and {_READING}") as caught:
            await frontend.send(worker)
        assert isinstance(caught.error, RequestRefused)
        return caught.error


def _as_it_says(worker: Worker) -> Callable[[Delivery], None]:
    """Refuse a frame with the code that its head names."""

    def look(delivery: Delivery) -> None:
        header, _ = split(delivery.frame, 1_000_000)
        if code := json.loads(header)["refuse"]:
            worker.got.pop()
            raise refusal(code, "as its head says")

    return look
