"""Plugins: found by name, loaded, checked; each complaint names the plugin and its distribution."""

from __future__ import annotations

import importlib.metadata
import itertools
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

import pytest
from reqplane.errors import PluginBroken, PluginConflict, PluginNotFound, SettingsError
from reqplane.plugins import Found, Plugins, installed, list_plugins, load_discovery, load_plugins
from reqplane.routing import RouterMode
from reqplane.settings import Settings, load

_numbers = itertools.count()

ENV = {"DYN_REQUEST_PLANE": "pigeon", "DYN_DISCOVERY_BACKEND": "mem"}

REQUEST_TRANSPORT = """
from typing import ClassVar
from reqplane.hookspecs import hookimpl
from reqplane.interfaces import RequestTransport
from reqplane.model import Capabilities

class Pigeon(RequestTransport):
    name = "NAME"
    capabilities = Capabilities()
    max_frame_bytes = 1
    @classmethod
    async def open(cls, host): return cls()
    def target(self, instance): return None
    async def send(self, target, frame, headers, deadline): pass
    async def listen(self, served, accept): raise NotImplementedError
    async def aclose(self): pass

@hookimpl
def reqplane_request_transports():
    return [Pigeon]
"""

RESPONSE_TRANSPORT = """
from reqplane.hookspecs import hookimpl
from reqplane.interfaces import ResponseTransport

Answers = type("Answers", (ResponseTransport,), {"name": "NAME"})
Answers.__abstractmethods__ = frozenset()

@hookimpl
def reqplane_response_transports():
    return [Answers]
"""

CODEC = """
from reqplane.hookspecs import hookimpl
from reqplane.interfaces import PayloadCodec

class Codec(PayloadCodec):
    name = "NAME"
    def encode(self, value): return b""
    def decode(self, data): return None

@hookimpl
def reqplane_payload_codecs():
    return [Codec]
"""


class Site:
    """A folder of installed distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self, distribution: str, name: str, code: str, group: str = "reqplane.transports", attribute: str = ""
    ) -> None:
        module = f"{distribution.replace('-', '_')}_{next(_numbers)}"
        (self.folder / f"{module}.py").write_text(textwrap.dedent(code).replace("NAME", name))
        info = self.folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}{attribute}\n")

    def extend(self, distribution: str, name: str, code: str) -> None:
        self.install(distribution, name, code, group="reqplane.extensions")

    @property
    def entry_points(self) -> list[EntryPoint]:
        distributions = importlib.metadata.distributions(path=[str(self.folder)])
        return [entry for distribution in distributions for entry in distribution.entry_points]

    def load(self, **env: str) -> Plugins:
        variables = {**ENV, **env}
        return load_plugins(load(Settings, variables), variables, entry_points=self.entry_points)

    def discovery(self, **env: str) -> type[Any]:
        variables = {**ENV, **env}
        settings = load(Settings, variables)
        return load_discovery(settings, variables, entry_points=self.entry_points)[0]

    def listing(self, **env: str) -> dict[str, Found]:
        settings = load(Settings, {**ENV, **env})
        return {found.distribution: found for found in list_plugins(settings, entry_points=self.entry_points)}


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Nothing is installed."""
    monkeypatch.setattr("reqplane.discovery.etcd.stubs.installed", lambda: False)
    monkeypatch.syspath_prepend(tmp_path)
    return Site(tmp_path)


@pytest.fixture
def site(bare: Site) -> Site:
    """A request plane and a response plane are installed."""
    bare.install("reqplane-pigeon", "pigeon", REQUEST_TRANSPORT)
    bare.install("reqplane-tcp-stream", "tcp_stream", RESPONSE_TRANSPORT)
    return bare


# ── what works ──────────────────────────────────────────────────────────────────────────────────────


def test_what_the_settings_name_is_there(site: Site):
    plugins = site.load()
    assert set(plugins.request_transports) == {"pigeon"}
    assert set(plugins.response_transports) == {"tcp_stream"}
    assert set(plugins.discovery_backends) == {"file", "mem", "static"}
    assert set(plugins.codecs) == {"msgpack", "json"}
    assert set(plugins.policies) == {mode.value for mode in RouterMode}


def test_each_class_has_its_origin(site: Site):
    plugins = site.load()
    origin = plugins.origins[plugins.request_transports["pigeon"]]
    assert (origin.name, origin.distribution, origin.version) == ("pigeon", "reqplane-pigeon", "1.2")
    assert plugins.origins[plugins.codecs["json"]].distribution == "reqplane"


def test_an_extension_serves_like_a_built_in(site: Site):
    site.extend("acme-codec", "acme", CODEC)
    plugins = site.load(DYN_REQUEST_PLANE_CODEC="acme")
    assert plugins.codecs["acme"]().encode(1) == b""


def test_an_extension_may_bring_a_request_plane(site: Site):
    site.extend("acme-owl", "owl", REQUEST_TRANSPORT)
    assert "owl" in site.load(DYN_REQUEST_PLANE="owl").request_transports


def test_a_broken_plugin_that_nobody_chose_hurts_nobody(site: Site):
    site.install("reqplane-nats", "nats", "import nowhere")
    assert set(site.load().request_transports) == {"pigeon"}


def test_a_disabled_extension_is_not_even_imported(site: Site):
    site.extend("acme-bad", "bad", "raise RuntimeError('imported')")
    assert site.load(DYN_DISABLED_EXTENSIONS="bad")


def test_a_plugin_may_be_an_object(site: Site):
    code = """
    from reqplane.hookspecs import hookimpl
    class Plugin:
        @hookimpl
        def reqplane_router_policies(self): return []
    plugin = Plugin()
    """
    site.install("acme-object", "object", code, "reqplane.extensions", ":plugin")
    assert [found.name for found in site.load().found] == ["builtin", "pigeon", "tcp_stream", "object"]


def test_a_plugin_can_be_handed_in_without_an_entry_point(site: Site):
    import types

    module = types.ModuleType("given")
    exec(CODEC.replace("NAME", "given"), module.__dict__)
    loaded = load_plugins(load(Settings, ENV), ENV, entry_points=site.entry_points, extra={"given": module})
    assert "given" in loaded.codecs


def test_observers_are_made_from_the_variables(site: Site):
    code = """
    from reqplane.hookspecs import hookimpl
    from reqplane.interfaces import Observer
    class Loud(Observer):
        def __init__(self, level): self.level = level
    @hookimpl
    def reqplane_observers(settings): return [Loud(settings["LEVEL"])]
    """
    site.extend("acme-loud", "loud", code)
    (observer,) = site.load().observers({"LEVEL": "11"})
    assert observer.level == "11"  # type: ignore[attr-defined]


def test_the_scan_is_done_once_a_process():
    assert installed() is installed()


async def test_a_failed_open_is_the_plugins(site: Site):
    plugins = site.load()
    pigeon: Any = plugins.request_transports["pigeon"]

    async def fails(host: Any) -> None:
        raise OSError("no\n coop")

    pigeon.open = fails
    with pytest.raises(PluginBroken) as caught:
        await plugins.open(pigeon, cast(Any, None))
    assert str(caught.value) == (
        "plugin 'pigeon' of reqplane-pigeon is broken at open: Pigeon.open raised OSError: no coop"
    )


# ── discovery alone ─────────────────────────────────────────────────────────────────────────────────

DISCOVERY = """
from reqplane.discovery.memory import MemoryDiscovery
from reqplane.hookspecs import hookimpl

class Phonebook(MemoryDiscovery):
    name = "NAME"

@hookimpl
def reqplane_discovery_backends(): return [Phonebook]
"""


def test_discovery_alone_needs_no_plane(bare: Site):
    assert bare.discovery().name == "mem"
    bare.install("reqplane-pigeon", "pigeon", "import nowhere")
    bare.install("reqplane-tcp-stream", "tcp_stream", "import nowhere")
    assert bare.discovery(DYN_REQUEST_PLANE="pigeon").name == "mem"


def test_discovery_alone_may_be_an_extensions(bare: Site):
    bare.extend("acme-phonebook", "phonebook", DISCOVERY)
    assert bare.discovery(DYN_DISCOVERY_BACKEND="phonebook").__qualname__ == "Phonebook"
    bare.extend("acme-bad", "bad", "import nowhere")
    with pytest.raises(PluginBroken, match="DYN_DISABLED_EXTENSIONS=bad"):
        bare.discovery(DYN_DISCOVERY_BACKEND="phonebook")


def test_discovery_alone_has_the_same_complaints(bare: Site):
    with pytest.raises(PluginNotFound, match="did you mean 'file'"):
        bare.discovery(DYN_DISCOVERY_BACKEND="fil")
    with pytest.raises(SettingsError, match="DYN_FILE_TTL"):
        bare.discovery(DYN_DISCOVERY_BACKEND="file", DYN_FILE_TTL="soon")
    with pytest.raises(SettingsError, match="export DYN_DISCOVERY_BACKEND=file"):
        bare.discovery(DYN_DISCOVERY_BACKEND="")


# ── what is missing ─────────────────────────────────────────────────────────────────────────────────


def test_a_slip_of_the_pen_is_recognized(site: Site):
    with pytest.raises(PluginNotFound) as caught:
        site.load(DYN_REQUEST_PLANE="pidgeon")
    assert str(caught.value) == (
        "there is no request plane 'pidgeon', did you mean 'pigeon'? (installed: pigeon)"
    )


@pytest.mark.parametrize("name", ["http", "nats", "tcp"])
def test_a_published_plane_comes_with_its_pip_line(site: Site, name: str):
    with pytest.raises(PluginNotFound, match=f"pip install reqplane-{name}`"):
        site.load(DYN_REQUEST_PLANE=name)


def test_a_foreign_name_comes_without_one(site: Site):
    with pytest.raises(PluginNotFound) as caught:
        site.load(DYN_REQUEST_PLANE="carrier")
    assert "pip" not in str(caught.value)


def test_the_response_plane_is_missing(bare: Site):
    bare.install("reqplane-pigeon", "pigeon", REQUEST_TRANSPORT)
    with pytest.raises(PluginNotFound, match=r"response plane 'tcp_stream'.*pip install reqplane-tcp-stream"):
        bare.load()


@pytest.mark.parametrize(
    ("variable", "kind"),
    [
        ("DYN_DISCOVERY_BACKEND", "discovery backend"),
        ("DYN_REQUEST_PLANE_CODEC", "codec"),
        ("DYN_ROUTER_MODE", "router mode"),
    ],
)
def test_other_names_are_looked_up_too(site: Site, variable: str, kind: str):
    with pytest.raises(PluginNotFound, match=f"there is no {kind} 'nowhere'"):
        site.load(**{variable: "nowhere"})


def test_etcd_chosen_but_not_installed(site: Site):
    with pytest.raises(PluginNotFound, match=r'pip install "reqplane\[etcd\]"'):
        site.load(DYN_DISCOVERY_BACKEND="etcd")


def test_both_defaults_are_missing(bare: Site):
    with pytest.raises(SettingsError) as caught:
        bare.load(DYN_REQUEST_PLANE="", DYN_DISCOVERY_BACKEND="")
    assert str(caught.value).splitlines() == [
        "2 settings are wrong:",
        "DYN_REQUEST_PLANE='nats': the default request plane is not installed: `pip install reqplane-nats`",
        "DYN_DISCOVERY_BACKEND='etcd': the default discovery backend is not installed: "
        '`pip install "reqplane[etcd]"`; or, with no server to run: '
        "`pip install reqplane-http` and `export DYN_REQUEST_PLANE=http DYN_DISCOVERY_BACKEND=file`",
    ]


def test_only_the_default_backend_is_missing(site: Site):
    with pytest.raises(SettingsError) as caught:
        site.load(DYN_DISCOVERY_BACKEND="")
    assert str(caught.value).endswith("or, with no server to run: `export DYN_DISCOVERY_BACKEND=file`")


def test_routing_by_cache_is_announced_but_absent(site: Site):
    with pytest.raises(SettingsError, match="DYN_ROUTER_MODE='kv'"):
        site.load(DYN_ROUTER_MODE="kv")


def test_a_programs_own_router_mode(site: Site):
    plugins = site.load()
    assert plugins.policy("random").name == "random"
    with pytest.raises(PluginNotFound, match="did you mean 'round_robin'"):
        plugins.policy("round-robin")


# ── what clashes ────────────────────────────────────────────────────────────────────────────────────


def test_two_distributions_claim_one_plane(site: Site):
    site.install("pigeons-by-acme", "pigeon", REQUEST_TRANSPORT)
    with pytest.raises(PluginConflict) as caught:
        site.load()
    assert set(caught.value.distributions) == {"reqplane-pigeon", "pigeons-by-acme"}
    assert "the transport 'pigeon' is claimed by" in str(caught.value)


def test_two_distributions_claim_one_extension(site: Site):
    site.extend("acme-a", "same", CODEC)
    site.extend("acme-b", "same", CODEC)
    with pytest.raises(PluginConflict, match="acme-a and acme-b"):
        site.load()


def test_an_extension_offers_a_name_that_is_taken(site: Site):
    site.extend("acme-json", "json", CODEC)
    with pytest.raises(PluginConflict, match="the codec 'json' is claimed by reqplane and acme-json"):
        site.load()


# ── what is broken ──────────────────────────────────────────────────────────────────────────────────

HEAD = "from reqplane.hookspecs import hookimpl\nfrom reqplane.interfaces import *\n"
IS_A_CODEC = (
    HEAD + "class Codec(PayloadCodec):\n    def encode(self, value): ...\n    def decode(self, data): ...\n"
)
ANSWER = "@hookimpl\ndef reqplane_payload_codecs(): return "

BROKEN: dict[str, tuple[str, str, str]] = {
    "import error": ("import nowhere_at_all", "import", "ModuleNotFoundError: No module named"),
    "syntax error": ("def", "import", "SyntaxError"),
    "exits": ("raise SystemExit(3)", "import", "SystemExit: 3"),
    "misspelled": (
        HEAD + "@hookimpl\ndef reqplane_payload_codec(): return []",
        "hooks",
        "unknown hook 'reqplane_payload_codec'",
    ),
    "unmarked": ("def reqplane_payload_codecs(): return []", "hooks", "not marked by @hookimpl"),
    "arguments": (HEAD + "@hookimpl\ndef reqplane_payload_codecs(mood): return []", "hooks", "mood"),
    "wrapper": (
        HEAD + "@hookimpl(wrapper=True)\ndef reqplane_payload_codecs():\n    return (yield)",
        "hooks",
        "is a wrapper",
    ),
    "raises": (HEAD + ANSWER + "1 / 0", "hooks", "reqplane_payload_codecs raised ZeroDivisionError"),
    "no answer": (HEAD + ANSWER + "None", "contract", "answered None; wanted a list"),
    "no list": (HEAD + ANSWER + "'codec'", "contract", "answered 'codec'; wanted a list"),
    "no class": (HEAD + ANSWER + "[3]", "contract", "3 is not a class; wanted a subclass of PayloadCodec"),
    "wrong class": (HEAD + ANSWER + "[Observer]", "contract", "Observer is not a subclass of PayloadCodec"),
    "abstract": (
        HEAD
        + "class Codec(PayloadCodec):\n    name = 'x'\n    def encode(self, value): ...\n"
        + ANSWER
        + "[Codec]",
        "contract",
        "Codec lacks decode, which PayloadCodec asks for",
    ),
    "no name": (IS_A_CODEC + ANSWER + "[Codec]", "contract", "Codec has no name"),
    "bad name": (IS_A_CODEC + "Codec.name = 'a b'\n" + ANSWER + "[Codec]", "contract", "Codec.name is 'a b'"),
    "twice": (
        IS_A_CODEC + "Codec.name = 'x'\n" + ANSWER + "[Codec, Codec]",
        "contract",
        "offers the name 'x' twice",
    ),
}


@pytest.mark.parametrize(("code", "stage", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_broken_extension(site: Site, code: str, stage: str, problem: str):
    site.extend("acme-bad", "bad", code)
    with pytest.raises(PluginBroken) as caught:
        site.load()
    error = caught.value
    assert (error.name, error.distribution, error.stage) == ("bad", "acme-bad", stage)
    assert problem in str(error)
    assert "DYN_DISABLED_EXTENSIONS=bad" in str(error)


def test_the_cause_is_kept(site: Site):
    site.extend("acme-bad", "bad", "import nowhere_at_all")
    with pytest.raises(PluginBroken) as caught:
        site.load()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_transport_has_the_name_of_its_entry_point(site: Site):
    site.install("acme-owl", "owl", REQUEST_TRANSPORT.replace("NAME", "eagle"))
    with pytest.raises(PluginBroken, match="its transport is named 'eagle', its entry point 'owl'"):
        site.load(DYN_REQUEST_PLANE="owl")


def test_a_transport_offers_a_transport(site: Site):
    site.install("acme-owl", "owl", "")
    with pytest.raises(PluginBroken, match="it offers no transport"):
        site.load(DYN_REQUEST_PLANE="owl")


def test_a_transport_has_capabilities(site: Site):
    site.install("acme-owl", "owl", REQUEST_TRANSPORT.replace("capabilities = Capabilities()", ""))
    with pytest.raises(PluginBroken, match="Pigeon has no capabilities"):
        site.load(DYN_REQUEST_PLANE="owl")


def test_an_observer_is_an_observer(site: Site):
    site.extend("acme-bad", "bad", HEAD + "@hookimpl\ndef reqplane_observers(): return [3]")
    with pytest.raises(PluginBroken, match="3 is not an Observer"):
        site.load().observers({})


def test_an_observer_complains_of_its_settings(site: Site):
    code = """
    from reqplane.hookspecs import hookimpl
    from reqplane.settings import load, port, setting, settings_class
    @settings_class
    class Wanted: port: int = setting("LOUD_PORT", default=1, parse=port)
    @hookimpl
    def reqplane_observers(settings): return [load(Wanted, settings)]
    """
    site.extend("acme-loud", "loud", code)
    with pytest.raises(SettingsError, match="LOUD_PORT='x': wanted a port number"):
        site.load().observers({"LOUD_PORT": "x"})


# ── the listing ─────────────────────────────────────────────────────────────────────────────────────


def test_the_listing_tells_everything_and_raises_nothing(site: Site):
    site.install("reqplane-nats", "nats", "import nowhere")
    site.extend("acme-codec", "acme", CODEC)
    site.extend("acme-off", "off", "raise RuntimeError('imported')")
    site.extend("acme-json", "json", CODEC)
    found = site.listing(DYN_DISABLED_EXTENSIONS="off")
    assert found["reqplane"].chosen
    assert [offer.name for offer in found["reqplane"].offers if offer.chosen] == [
        "mem",
        "msgpack",
        "round_robin",
    ]
    assert found["reqplane-pigeon"].chosen
    assert found["reqplane-tcp-stream"].chosen
    assert not found["acme-codec"].chosen
    assert "broken at import" in str(found["reqplane-nats"].broken)
    assert found["acme-off"].disabled
    assert "claimed by reqplane and acme-json" in str(found["acme-json"].broken)


def test_the_listing_tells_of_two_claimants(site: Site):
    site.install("pigeons-by-acme", "pigeon", REQUEST_TRANSPORT)
    found = site.listing()
    assert "claimed by" in str(found["pigeons-by-acme"].broken)
    assert "claimed by" in str(found["reqplane-pigeon"].broken)


def test_the_listing_survives_a_broken_core(site: Site, monkeypatch: pytest.MonkeyPatch):
    def fail() -> Any:
        raise PluginBroken("builtin", "reqplane", "hooks", "no")

    monkeypatch.setattr("reqplane.plugins.listing.load_builtin", fail)
    assert site.listing()["reqplane"].broken


def test_no_plugin_manager_outlives_a_runtime():
    import pluggy

    modules = [module for name, module in sys.modules.items() if name.startswith("reqplane.plugins")]
    assert len(modules) > 4
    values = [value for module in modules for value in vars(module).values()]
    assert not [value for value in values if isinstance(value, pluggy.PluginManager)]


def test_two_runtimes_share_nothing(site: Site):
    first, second = site.load(), site.load()
    assert first.origins is not second.origins
    assert first.codecs["json"] is second.codecs["json"]
