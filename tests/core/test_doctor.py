"""The doctor's parts: what a probe is, what its failures mean, what is said about what is installed."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from memory_planes import MemoryRequests, Network
from reqplane import errors
from reqplane.cli.doctor import _as_json, _as_text
from reqplane.codecs import JsonCodec, MsgpackCodec
from reqplane.doctor.addresses import Place, check_listening, is_local, places, reach
from reqplane.doctor.folder import check_folder, forget
from reqplane.doctor.installed import check_plugins, what_works
from reqplane.doctor.probe import Prober, undecodable
from reqplane.doctor.records import address_of, moved
from reqplane.doctor.report import Advice, Finding, Report, wrong
from reqplane.doctor.surroundings import Surroundings
from reqplane.doctor.variables import check_names, listed
from reqplane.doctor.workers import check_workers
from reqplane.host import RuntimeHost
from reqplane.interfaces import PayloadCodec
from reqplane.model import EndpointId, Instance, Limits
from reqplane.plugins import Found, Offer
from reqplane.settings import Settings, setting, settings_class, text
from reqplane_http.settings import HttpSettings
from reqplane_tcp_stream.settings import TcpStreamSettings

from .conftest import CODECS, ENDPOINT, Fleet

LABEL = f"{ENDPOINT}/0"


# ── a probe ─────────────────────────────────────────────────────────────────────────────────────────


class Ward:
    """Workers in memory, and a doctor who looks at them."""

    def __init__(self, network: Network, codec: str = "msgpack") -> None:
        self.fleet = Fleet(network, codec)
        self.ran: list[Any] = []
        self.fleet.add(self._handler)
        self.patience = 5.0

    async def _handler(self, request: Any) -> AsyncIterator[Any]:
        self.ran.append(request)
        yield request

    async def look(self, *instances: Instance, home: str = "127.0.0.1:9000") -> list[Finding]:
        around = Surroundings(
            env={"DYN_FILE_KV": "/nowhere"},
            discovery="file",
            planes=("memory",),
            found=[builtin(), plugin("http", "request plane")],
            transports=[MemoryRequests(self.fleet.network)],
            codecs=CODECS,
            host=self.fleet.host,
            response_place=Place("DYN_TCP_RESPONSE_STREAM", "0.0.0.0", 9000, ""),
            home=home,
        )
        prober = Prober(self.fleet.response, self.patience)
        return await check_workers(instances or self.fleet.instances, around, prober)


@pytest.fixture(params=["ack", "home"])
async def network(request: pytest.FixtureRequest) -> Network:
    return Network(first=request.param)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("enveloped", [False, True])
async def test_the_whole_way_but_not_into_the_handler(network: Network, codec: str, enveloped: bool):
    network.enveloped = enveloped
    ward = Ward(network, codec)
    (finding,) = await ward.look()
    assert finding.verdict == "ok"
    assert finding.what.startswith(f"{LABEL} on memory: accepted after ")
    assert not ward.ran
    assert all(headers == {"x-reqplane-instance": "0/100"} for headers in network.headers)
    await ward.fleet.close()


async def test_dynamos_worker_answers_nothing_to_that():
    ward = Ward(Network(first="ack"))
    (instance,) = ward.fleet.instances
    (finding,) = await ward.look(dataclasses.replace(instance, dynamo=True))
    assert finding.verdict == "ok"
    assert finding.what.endswith("; it is Dynamo's, which answers no request that asks for nothing")
    await ward.fleet.close()


def test_what_cannot_be_decoded():
    assert undecodable(MsgpackCodec()) == b"\xc1"
    assert undecodable(JsonCodec()) == b"\xc1"

    class TakesAll(PayloadCodec):
        name = "all"

        def encode(self, value: Any) -> bytes:
            return b""

        def decode(self, data: Any) -> Any:
            return None

    assert undecodable(TakesAll()) is None


@pytest.mark.parametrize(
    ("error", "verdict", "words"),
    [
        (errors.CannotConnect("refused", address="x"), "WRONG", "nobody answers at x (refused)"),
        (errors.DeliveryUnknown("connection_lost", "cut"), "WRONG", "nobody answers"),
        (errors.UnknownEndpoint("this is another"), "WRONG", "is gone, another process has its address"),
        (errors.WrongInstance("this is another"), "WRONG", "is gone, another process has its address"),
        (errors.WorkerBusy("full"), "note", "takes nothing new at the moment"),
        (errors.WorkerDraining("leaving"), "note", "takes nothing new at the moment"),
        (errors.PayloadError("it decodes everything"), "note", "it decodes everything"),
        (errors.NotAllowed("no"), "WRONG", "may not connect to 127.0.0.1:9000"),
        (errors.InvalidFrame("odd"), "WRONG", "refused the request: odd"),
        (errors.StreamBroken("cut"), "WRONG", "the answer broke"),
        (errors.FrameTooLarge(9, 3), "WRONG", "9 bytes"),
        (ZeroDivisionError("by zero"), "WRONG", "the plane memory raised ZeroDivisionError: by zero"),
    ],
)
async def test_what_a_failure_means(error: Any, verdict: str, words: str):
    network = Network(fail={100: error})
    ward = Ward(network)
    (finding,) = await ward.look()
    assert (finding.verdict, words in finding.what) == (verdict, True), finding
    assert (verdict == "WRONG") == bool(finding.advice)
    await ward.fleet.close()


async def test_one_that_never_calls_home():
    network = Network()
    network.call_home.clear()
    ward = Ward(network)
    ward.patience = 0.1
    (finding,) = await ward.look()
    assert "could not connect to 127.0.0.1:9000" in finding.what
    assert finding.advice[0].commands == ("unset DYN_RESPONSE_ALLOW",)
    assert "iptables -I INPUT -p tcp --dport 9000 -j ACCEPT" in finding.advice[1].commands[0]
    remote = dataclasses.replace(ward.fleet.instances[0], transport={"memory": "203.0.113.7:80"})
    (finding,) = await ward.look(remote)
    assert finding.advice[0].commands == (
        "unset DYN_TCP_RESPONSE_STREAM_HOST DYN_TCP_RESPONSE_STREAM_ADVERTISE_HOST",
    )
    network.call_home.set()
    await ward.fleet.close()


async def test_one_that_never_acknowledges():
    ward = Ward(Network(silent={100}))
    ward.patience = 0.1
    (finding,) = await ward.look()
    assert "nobody answers" in finding.what
    await ward.fleet.close()


async def test_one_on_another_plane_or_with_another_codec():
    ward = Ward(Network())
    elsewhere = Instance(ENDPOINT, 1, 101, {"http": "x"}, "msgpack", ("http",))
    strange = Instance(ENDPOINT, 2, 102, {"memory": "x"}, "zstd", ("memory",))
    unusable = Instance(ENDPOINT, 3, 103, {}, "msgpack", ("memory",))
    findings = await ward.look(elsewhere, strange, unusable)
    assert [finding.verdict for finding in findings] == ["WRONG"] * 3
    assert "is on http, this side on memory" in findings[0].what
    assert findings[0].advice[0].commands == ("export DYN_REQUEST_PLANE=http",)
    assert "wants the codec 'zstd'" in findings[1].what
    assert "has no address that memory can use" in findings[2].what
    await ward.fleet.close()


async def test_one_of_another_version():
    ward = Ward(Network())
    old = dataclasses.replace(ward.fleet.instances[0], version="0.0.9", planes=("http",))
    version, probed = await ward.look(old)
    assert (version.verdict, probed.verdict) == ("note", "ok")
    assert "is of version 0.0.9, this side of 0.1.0" in version.what
    (line,) = version.advice[0].commands
    assert line.endswith("pip install reqplane==0.1.0 reqplane-tcp-stream==0.1.0 reqplane-http==0.1.0")
    await ward.fleet.close()


# ── records ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("transport", "address"),
    [
        ({"http_tcp": {"http_endpoint": "http://10.0.0.1:80/v1", "tcp_endpoint": "x:9000"}}, "10.0.0.1:80"),
        ({"http": "http://[::1]:8081/v1/x"}, "[::1]:8081"),
        ({"tcp": "worker-1:36155/43b7/default/backend"}, "worker-1:36155"),
        ({"http": "http://user:1234@host:80/"}, "host:80"),
        ({"nats_tcp": "default_backend.generate-3e08"}, None),
        ({"x": "a:0", "y": 3, "z": ["b:1"], "w": "c:99999"}, None),
    ],
)
def test_addresses_in_records(transport: dict[str, Any], address: str | None):
    assert address_of(Instance(ENDPOINT, 0, 1, transport)) == address


def test_a_record_with_another_host():
    record = {"http_tcp": {"http_endpoint": "http://10.0.0.9:80/10.0.0.9", "n": 3}}
    assert moved(record, "10.0.0.9", "127.0.0.1") == {
        "http_tcp": {"http_endpoint": "http://127.0.0.1:80/10.0.0.9", "n": 3}
    }
    assert moved("http://[::9]:80/", "::9", "::1") == "http://[::1]:80/"


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────


def test_where_plugins_listen():
    (http,) = places(HttpSettings(advertise_host="h"))
    assert http == Place("DYN_HTTP_RPC", "0.0.0.0", 8081, "h")
    (home,) = places(TcpStreamSettings())
    assert (home.prefix, home.port) == ("DYN_TCP_RESPONSE_STREAM", None)
    assert list(places(Settings())) == []


async def test_what_is_local():
    assert await is_local("127.0.0.1")
    for host in ("203.0.113.7", "a..b", "x" * 70, "\ud800", "\x1b[2J"):
        assert not await is_local(host)
        assert await reach(host, 1) is not None or host == "203.0.113.7"  # some networks answer for all


async def test_an_address_that_is_not_here():
    host = RuntimeHost({}, Limits())
    (finding,) = await check_listening(Place("DYN_X", "203.0.113.7", 0, ""), host, None)
    assert finding.advice[0].commands == ("unset DYN_X_HOST",)
    await host.aclose()


# ── what is installed ───────────────────────────────────────────────────────────────────────────────


def plugin(name: str, kind: str, **fields: Any) -> Found:
    distribution = fields.pop("distribution", f"reqplane-{name.replace('_', '-')}")
    found = Found(name, distribution, "0.1.0", "reqplane.transports", (Offer(kind, name, False),))
    return dataclasses.replace(found, **fields)


def builtin() -> Found:
    offers = [("codec", "msgpack"), ("discovery backend", "file"), ("router mode", "round_robin")]
    return Found("builtin", "reqplane", "0.1.0", "", tuple(Offer(*offer, True) for offer in offers))


HOME = plugin("tcp_stream", "response plane")
CHOSEN = Settings(planes=("http",), discovery="file")


def commands(*found: Found, settings: Settings = CHOSEN) -> list[str]:
    """What is to be typed, after `python -m`."""
    findings = check_plugins(settings, found)
    lines = [line for finding in findings for advice in finding.advice for line in advice.commands]
    return [line.split(" -m ")[-1] for line in lines]


def test_all_is_there():
    assert commands(builtin(), HOME, plugin("http", "request plane")) == []


def test_what_is_missing_is_installed_or_replaced():
    assert commands(builtin(), HOME) == ["pip install reqplane-http==0.1.0"]
    assert commands(builtin(), plugin("http", "request plane")) == ["pip install reqplane-tcp-stream==0.1.0"]
    nats = Settings(planes=("nats",), discovery="etcd", codec="msgpac")
    assert commands(builtin(), HOME, settings=nats) == [
        "pip install reqplane-nats==0.1.0",
        "pip install 'reqplane[etcd]==0.1.0'",
        "export DYN_REQUEST_PLANE_CODEC=msgpack",
    ]


def test_what_is_broken_is_repaired_or_left_out():
    http = plugin("http", "request plane", broken="it is broken", offers=())
    assert commands(builtin(), HOME, http) == ["pip install --force-reinstall reqplane-http==0.1.0"]
    yours = plugin("http", "request plane", broken="it is broken", distribution="yours; rm -rf", offers=())
    assert commands(builtin(), HOME, yours) == ["pip uninstall --yes 'yours; rm -rf'"]
    other = plugin("nats", "request plane", broken="it is broken", offers=())
    findings = check_plugins(CHOSEN, [builtin(), HOME, plugin("http", "request plane"), other])
    assert [finding.verdict for finding in findings] == ["note", "ok"]


def test_a_broken_extension_is_left_out():
    http, bad = plugin("http", "request plane"), plugin("bad", "codec", broken="it is broken")
    bad = dataclasses.replace(bad, group="reqplane.extensions")
    settings = dataclasses.replace(CHOSEN, disabled_extensions=("worse",))
    assert commands(builtin(), HOME, http, bad, settings=settings) == [
        "export DYN_DISABLED_EXTENSIONS=worse,bad"
    ]
    assert what_works(settings, [builtin(), HOME, http, bad]).disabled_extensions == ("worse", "bad")


def test_what_works_is_what_is_left():
    settings = Settings(planes=("nats", "http"), discovery="etcd", codec="x", router_mode="kv")
    left = what_works(settings, [builtin(), HOME, plugin("http", "request plane")])
    assert left == Settings(planes=("http",), discovery="file")


# ── variables ───────────────────────────────────────────────────────────────────────────────────────


@settings_class
class Secretive:
    token: str = setting("DYN_TEST_TOKEN", default="", parse=text, secret=True)
    server: str = setting("DYN_TEST_SERVER", default="x", parse=text)


def test_settings_are_listed_without_their_secrets():
    env = {"DYN_TEST_TOKEN": "hunter2", "DYN_TEST_SERVER": "nats://me:hunter2@host"}
    shown = [(one.value, one.origin) for one in listed([Secretive], env)]
    assert shown == [("***", "environment"), ("nats://***@host", "environment")]
    assert [(one.value, one.origin) for one in listed([Secretive], {})] == [
        ("-", "default"),
        ("x", "default"),
    ]


def test_a_misspelt_secret_is_not_shown_and_not_typed():
    (finding,) = check_names({"DYN_TEST_TOKN": "hunter2"}, [Secretive])
    assert "hunter2" not in str(finding)
    assert finding.advice[0].commands == ('export DYN_TEST_TOKEN="$DYN_TEST_TOKN"; unset DYN_TEST_TOKN',)


def test_names_that_no_shell_can_name():
    (finding,) = check_names({"DYN_TEST_SERVE;R": "x"}, [Secretive])
    assert finding.advice[0].commands == ()
    (finding,) = check_names({"DYN_TEST_SERVR": "x", "DYN_TEST_SERVER": "y"}, [Secretive])
    assert finding.advice[0].commands == ("unset DYN_TEST_SERVR",)


def test_records_can_be_forgotten(tmp_path: Path):
    instance = Instance(EndpointId("a", "b", "c"), 255, 1, {})
    env = {"DYN_FILE_KV": str(tmp_path)}
    assert forget(instance, "file", env).commands == ()
    (tmp_path / "v1" / "instances").mkdir(parents=True)
    for name in ("a%2Fb%2Fc%2Fff", "namespace.a.component.b.endpoint.c.instance.255"):
        (tmp_path / "v1" / "instances" / name).write_text("")
        assert forget(instance, "file", env).commands == (f"rm {tmp_path}/v1/instances/{name}",)
    assert forget(instance, "etcd", env).commands == ()


def test_a_folder_in_which_dynamo_does_not_look():
    finding = check_folder({"DYN_WIRE_PROFILE": "dynamo"})
    assert (finding.verdict, "Dynamo's is another one" in finding.what) == ("note", True)
    assert finding.advice[0].commands[0].startswith("export DYN_FILE_KV=/")
    assert check_folder({}).verdict == "ok"


def test_a_folder_that_is_another_one_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    finding = check_folder({"DYN_FILE_KV": "~/kv"})
    assert (finding.verdict, f"here it is {tmp_path}/~/kv;" in finding.what) == ("note", True)


# ── what is printed ─────────────────────────────────────────────────────────────────────────────────


def test_nothing_that_a_terminal_would_obey_and_no_password():
    evil = "\x1b[2J\u202e\x9b\r\u2028"
    report = Report((), (wrong(f"{evil} http://me:hunter2@host/", Advice(evil, (evil,))),))
    text = "\n".join(_as_text(report))
    for printed in (text, _as_json(report)):
        assert all(line.isprintable() for line in printed.split("\n"))
        assert "hunter2" not in printed
    assert len(text.split("\n")) == 7
