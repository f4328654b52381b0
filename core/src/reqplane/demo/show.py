"""The whole demonstration: start three workers, ask, kill one, go on, tell what happened."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import reqplane
from reqplane.client import Client
from reqplane.demo.ngram import NgramModel
from reqplane.demo.worker import PATH, language_model
from reqplane.errors import ReqplaneError, StreamBroken
from reqplane.settings import environment


class DemoFailed(Exception):
    """The demonstration can't go on."""


WORKERS = 3
PROMPTS = ("The keeper of the light", "At night the harbour", "When the storm came")
_BUSY, _AFTER = 24, 60
"""Requests under way when the worker is killed, and requests made afterwards."""
_PATIENCE = 30.0


@dataclass
class Tally:
    """What came back."""

    requests: int = 0
    items: int = 0
    cut_off: int = 0
    wrong: list[str] = field(default_factory=list[str])
    by_worker: Counter[int] = field(default_factory=Counter[int])

    def line(self, planes: str, seconds: float) -> str:
        shares = ", ".join(f"worker {number}: {count}" for number, count in sorted(self.by_worker.items()))
        result = "all is well" if not self.wrong else f"FAILED: {self.wrong[0]}"
        return (
            f"{self.requests} requests, {self.items} items, {self.cut_off} cut off by the kill, "
            f"{len(self.wrong)} wrong ({shares}) on {planes} in {seconds:.1f} s: {result}"
        )


async def show(chosen: Mapping[str, str]) -> int:
    """Run it; the exit status is 0 only if every call after the kill was whole and right."""
    begin = time.monotonic()
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="reqplane-demo-") as folder:
        env = {"DYN_LOG": "warning", **chosen}
        if not environment().get("DYN_FILE_KV"):
            env["DYN_FILE_KV"] = folder
        async with reqplane.connect(env, signals=False) as runtime, _workers(env) as workers:
            client = await runtime.endpoint(PATH).client()
            try:
                await _all_present(client, workers)
            except DemoFailed as error:
                print(f"reqplane: {error}", file=sys.stderr)
                return 1
            model = language_model()
            print(
                f"{WORKERS} workers have learnt a story.  Three prompts, each answered by another worker:\n"
            )
            for number, prompt in enumerate(PROMPTS):
                await _aloud(client, prompt, number, model, tally)
            await _kill_one(client, workers, model, tally)
            planes = ",".join(runtime.settings.planes)
            discovery = runtime.settings.discovery
    _say_how_to_go_on(planes, discovery)
    print(tally.line(f"{planes} with {discovery} discovery", time.monotonic() - begin))
    return 1 if tally.wrong else 0


# ── workers ─────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _workers(env: Mapping[str, str]) -> AsyncGenerator[list[asyncio.subprocess.Process]]:
    """Processes of their own, as they would be on machines of their own.

    Each leaves when its standard input ends, so none is left over, whatever becomes of us.
    """
    program = (sys.executable, "-m", "reqplane", "demo", "server", "--until-eof")
    workers: list[asyncio.subprocess.Process] = []
    try:
        for _ in range(WORKERS):
            workers.append(
                await asyncio.create_subprocess_exec(
                    *program, env=environment(env), stdin=asyncio.subprocess.PIPE, start_new_session=True
                )
            )
        yield workers
    finally:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in workers:
            await _gone(worker)


async def _gone(worker: asyncio.subprocess.Process) -> None:
    try:
        await asyncio.wait_for(worker.wait(), 10)
    except TimeoutError:
        worker.kill()
        await worker.wait()


async def _all_present(client: Client, workers: list[asyncio.subprocess.Process]) -> None:
    """Wait for every worker; a worker that could not start has said why."""
    give_up = time.monotonic() + _PATIENCE
    while len(client.instances()) < WORKERS:
        if any(worker.returncode is not None for worker in workers):
            raise DemoFailed("a worker could not start; its own words stand above")
        if time.monotonic() > give_up:
            found = len(client.instances())
            raise DemoFailed(
                f"the workers run, but after {_PATIENCE:g} s discovery shows {found} of {WORKERS}"
            )
        await asyncio.sleep(0.05)


# ── calls ───────────────────────────────────────────────────────────────────────────────────────────


async def _aloud(client: Client, prompt: str, seed: int, model: NgramModel, tally: Tally) -> None:
    """One prompt, its answer printed as it streams in."""
    request = {"prompt": prompt, "max_tokens": 45, "seed": seed, "pause": 0.02}
    print(f"  {prompt}", end="", flush=True)
    await _checked(client, request, model, tally, aloud=True)
    print("\n")


async def _checked(
    client: Client, request: dict[str, Any], model: NgramModel, tally: Tally, *, aloud: bool = False
) -> None:
    """One call, compared token by token with what the model says here.

    StreamBroken goes through to the caller.
    """
    expected = list(model.generate(request["prompt"], request["max_tokens"], seed=request["seed"]))
    tally.requests += 1
    tokens: list[str] = []
    stream = client.generate(request, timeout=_PATIENCE)
    async for item in stream:
        tokens.append(item["token"])
        tally.items += 1
        if aloud:
            print(item["token"].replace("\n", " "), end="", flush=True)
    if stream.instance is not None:
        tally.by_worker[stream.instance.instance_id] += 1
    if tokens != expected:
        tally.wrong.append(f"request {stream.request_id}: {len(tokens)} of {len(expected)} tokens were right")


async def _kill_one(
    client: Client, workers: list[asyncio.subprocess.Process], model: NgramModel, tally: Tally
) -> None:
    """Kill a worker under load: its callers are told, everybody else does not notice."""
    busy = [asyncio.ensure_future(_under_fire(client, seed, model, tally)) for seed in range(_BUSY)]
    await asyncio.sleep(0.3)
    victim = workers[0]
    print(f"{_BUSY} requests are under way.  Killing worker process {victim.pid} (kill -9) …")
    os.kill(victim.pid, signal.SIGKILL)
    await asyncio.gather(*busy)
    print(f"{tally.cut_off} callers were told that their stream broke; no short answer looked complete.")
    wrong = len(tally.wrong)
    await asyncio.gather(*(_afterwards(client, seed, model, tally) for seed in range(_AFTER)))
    right = _AFTER - (len(tally.wrong) - wrong)
    print(f"{_AFTER} more requests after that: {right} whole and right.\n")


async def _under_fire(client: Client, seed: int, model: NgramModel, tally: Tally) -> None:
    request = {"prompt": PROMPTS[seed % 3], "max_tokens": 60, "seed": seed, "pause": 0.01}
    try:
        await _checked(client, request, model, tally)
    except StreamBroken:
        tally.cut_off += 1
    except ReqplaneError as error:
        tally.wrong.append(str(error))


async def _afterwards(client: Client, seed: int, model: NgramModel, tally: Tally) -> None:
    request = {"prompt": PROMPTS[seed % 3], "max_tokens": 30, "seed": seed, "pause": 0.005}
    try:
        await _checked(client, request, model, tally)
    except ReqplaneError as error:
        tally.wrong.append(str(error))


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────


def _say_how_to_go_on(planes: str, discovery: str) -> None:
    command = _command()
    print("By hand: a worker in one terminal (or several, each in one), prompts in another:\n")
    print(f"  {command} demo server")
    print(f'  {command} demo client "The keeper of the light"')
    print(
        f"  DYN_REQUEST_PLANE={planes} DYN_DISCOVERY_BACKEND={discovery} "
        f'{command} call {PATH} \'{{"prompt": "At night", "max_tokens": 5}}\'\n'
    )


def _command() -> str:
    """How `reqplane` is typed here: by its name if that is found, else by its path."""
    beside = os.path.join(os.path.dirname(sys.executable), "reqplane")
    found = shutil.which("reqplane")
    if found and os.path.realpath(found) == os.path.realpath(beside):
        return "reqplane"
    return os.path.relpath(beside) if os.path.exists(beside) else f"{sys.executable} -m reqplane"
