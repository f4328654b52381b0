"""Logins: users, tokens, nkeys, credentials files, on real servers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from reqplane.errors import CannotConnect, SettingsError
from reqplane.model import NEVER
from reqplane_nats.transport import NatsTransport
from servers import Nats

from .conftest import Worker, frame, opened, target_of, until
from .credentials import USER, Key, Operator

StartServer = Callable[[str], Nats]
PASSWORD_CONFIG = 'authorization { user: ann, password: "p@ss:w/rd" }'


@pytest.fixture
def server(tmp_path: Path, stack: AsyncExitStack) -> StartServer:
    """Starts a server with this configuration."""

    def start(config: str) -> Nats:
        found = Nats(tmp_path / "server", config=config).start()
        stack.callback(found.close)
        return found

    return start


async def a_request_goes_through(env: Mapping[str, str]) -> None:
    async with opened(env) as plane:
        here = await Worker(plane, plane.max_frame_bytes).listen()
        await plane.send(target_of(here.subject, plane), frame(), {}, NEVER)


async def refused(env: Mapping[str, str]) -> SettingsError:
    """Opening fails at once, and says so without secrets."""
    with pytest.raises(SettingsError) as caught:
        async with asyncio.timeout(10), opened(env):
            pass
    for secret in ("p@ss", "p%40ss", "wrong", "t0ken"):
        assert secret not in str(caught.value)
    return caught.value


def at(server: Nats, login: str) -> str:
    return f"nats://{login}@127.0.0.1:{server.port}"


async def test_user_and_password(server: StartServer) -> None:
    there = server(PASSWORD_CONFIG)
    env = {"NATS_SERVER": there.url, "NATS_AUTH_USERNAME": "ann", "NATS_AUTH_PASSWORD": "p@ss:w/rd"}
    await a_request_goes_through(env)
    await a_request_goes_through({"NATS_SERVER": at(there, "ann:p%40ss%3Aw%2Frd")})
    for bad in (
        {**env, "NATS_AUTH_PASSWORD": "wrong"},
        {"NATS_SERVER": at(there, "ann:wrong")},
        {"NATS_SERVER": there.url},
        {"NATS_SERVER": there.url, "NATS_AUTH_TOKEN": "t0ken"},
    ):
        error = await refused(bad)
        assert "NATS_AUTH_USERNAME" in str(error)
        assert "Authorization Violation" in str(error)


async def test_a_token(server: StartServer) -> None:
    there = server("authorization { token: t0ken }")
    await a_request_goes_through({"NATS_SERVER": there.url, "NATS_AUTH_TOKEN": "t0ken"})
    await a_request_goes_through({"NATS_SERVER": at(there, "t0ken")})
    await refused({"NATS_SERVER": at(there, "wrong")})


async def test_an_nkey(server: StartServer) -> None:
    key, other = Key(USER), Key(USER)
    there = server(f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}")
    await a_request_goes_through({"NATS_SERVER": there.url, "NATS_AUTH_NKEY": key.seed.decode()})
    error = await refused({"NATS_SERVER": there.url, "NATS_AUTH_NKEY": other.seed.decode()})
    assert "NATS_AUTH_NKEY" in str(error)
    assert other.seed.decode() not in str(error)


async def test_a_credentials_file(server: StartServer, tmp_path: Path) -> None:
    operator = Operator()
    there = server(operator.config)
    good, expired = operator.user(tmp_path / "a.creds"), operator.user(tmp_path / "b.creds", -10)
    stranger = Operator().user(tmp_path / "c.creds")
    await a_request_goes_through({"NATS_SERVER": there.url, "NATS_AUTH_CREDENTIALS_FILE": str(good)})
    for bad in (expired, stranger):
        error = await refused({"NATS_SERVER": there.url, "NATS_AUTH_CREDENTIALS_FILE": str(bad)})
        assert "NATS_AUTH_CREDENTIALS_FILE" in str(error)


async def test_credentials_that_expire_and_are_written_anew(
    server: StartServer, tmp_path: Path, stack: AsyncExitStack
) -> None:
    """The server ends the connection for good; ours is made again as soon as the file is right."""
    operator = Operator()
    there = server(operator.config)
    file = operator.user(tmp_path / "a.creds", 2)
    env = {"NATS_SERVER": there.url, "NATS_AUTH_CREDENTIALS_FILE": str(file)}
    plane = await stack.enter_async_context(opened(env))
    here = await Worker(plane, plane.max_frame_bytes).listen()
    target = target_of(here.subject, plane)
    await plane.send(target, frame(), {}, NEVER)
    await until(lambda: plane._link.wire is None)
    with pytest.raises(CannotConnect, match=r"(?i)authentication expired|authorization violation"):
        await plane.send(target, frame(), {}, NEVER)
    operator.user(file)
    await until(lambda: plane._link.wire is not None)
    await plane.send(target, frame(), {}, NEVER)


async def test_a_user_that_is_revoked_and_allowed_again(server: StartServer, stack: AsyncExitStack) -> None:
    there = server(PASSWORD_CONFIG)
    plane = await stack.enter_async_context(opened({"NATS_SERVER": at(there, "ann:p%40ss%3Aw%2Frd")}))
    here = await Worker(plane, plane.max_frame_bytes).listen()
    configure(there, "authorization { user: bob, password: b }")
    await until(lambda: plane._link.wire is None)
    await until(lambda: "refuses the login" in plane._link.problem)
    with pytest.raises(CannotConnect, match="refuses the login"):
        await plane.send(target_of(here.subject, plane), frame(), {}, NEVER)
    configure(there, PASSWORD_CONFIG)
    await until(lambda: plane._link.wire is not None)
    await plane.send(target_of(here.subject, plane), frame(), {}, NEVER)


def configure(server: Nats, config: str) -> None:
    """Let a running server read another configuration."""
    server._config.write_text(config)
    os.kill(server.pid, signal.SIGHUP)


LIMITED = """authorization { users: [
    { user: all, password: a },
    { user: frontend, password: f, permissions: { publish: "allowed.>", subscribe: "_INBOX.>" } },
] }"""


async def test_a_user_who_may_not_serve(server: StartServer, stack: AsyncExitStack) -> None:
    there = server(LIMITED)
    plane = await stack.enter_async_context(opened({"NATS_SERVER": at(there, "frontend:f")}))
    with pytest.raises(SettingsError, match="does not allow this user to serve"):
        await Worker(plane, plane.max_frame_bytes).listen()


async def test_a_user_who_may_not_send_there(server: StartServer, stack: AsyncExitStack) -> None:
    """The server passes nothing on, and says so: surely not accepted, and at once."""
    there = server(LIMITED)
    plane = await stack.enter_async_context(opened({"NATS_SERVER": at(there, "all:a")}))
    frontend: NatsTransport = await stack.enter_async_context(
        opened({"NATS_SERVER": at(there, "frontend:f")})
    )
    here = await Worker(plane, plane.max_frame_bytes).listen()
    with pytest.raises(CannotConnect, match="Permissions Violation for Publish"):
        await asyncio.wait_for(frontend.send(target_of(here.subject, frontend), frame(), {}, NEVER), 2)
    assert here.got == []


@pytest.mark.parametrize(
    ("env", "variable"),
    [
        ({"NATS_AUTH_USERNAME": "ann"}, "NATS_AUTH_PASSWORD"),
        ({"NATS_AUTH_PASSWORD": "p@ss"}, "NATS_AUTH_USERNAME"),
        ({"NATS_AUTH_TOKEN": "t0ken", "NATS_AUTH_NKEY": "SUx"}, "NATS_AUTH_NKEY too"),
        ({"NATS_AUTH_NKEY": "p@ss"}, "starts with SU"),
        ({"NATS_AUTH_CREDENTIALS_FILE": "/nowhere"}, "No such file"),
        ({"NATS_AUTH_CREDENTIALS_FILE": __file__}, "as nsc writes them"),
        ({"NATS_AUTH_CREDENTIALS_FILE": "/dev"}, "can't be read: Is a directory"),
        ({"NATS_SERVER": "nats://ann:p%40ss@x:1", "NATS_AUTH_TOKEN": "t0ken"}, "wanted one of them"),
        ({"NATS_SERVER": "http://127.0.0.1:4222"}, "nats:// or tls://"),
        ({"NATS_SERVER": "ws://127.0.0.1:4222"}, "nats:// or tls://"),
        ({"NATS_SERVER": "nats://ann:p%40ss@127.0.0.1:99999"}, "such as nats://host:4222"),
        ({"NATS_SERVER": "nats://"}, "such as nats://host:4222"),
        ({"NATS_SERVER": "nats://a b"}, "such as nats://host:4222"),
        ({"NATS_SERVER": ","}, "such as nats://host:4222"),
    ],
)
async def test_what_can_not_be_is_told_before_anything_is_tried(env: dict[str, str], variable: str) -> None:
    assert variable in str(await refused(env))


async def test_an_empty_credentials_file(tmp_path: Path) -> None:
    """nats-py would read it for ever."""
    (tmp_path / "empty").write_text("")
    error = await refused({"NATS_AUTH_CREDENTIALS_FILE": str(tmp_path / "empty")})
    assert "as nsc writes them" in str(error)
