"""Real distributions that are broken: each is named, with its distribution and the stage where it failed.

Each stands in a folder of `broken`, is built by its own backend and installed beside ours; a process of its
own connects, and runs `reqplane plugins`.
"""

from __future__ import annotations

from typing import Any

import pytest

# Folder: the stage, and what is told of the problem.
EXTENSIONS = {
    "import_error": ("import", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    "syntax_error": ("import", "SyntaxError: invalid syntax"),
    "exits": ("import", "SystemExit: 3"),
    "steers_terminal": ("import", r"RuntimeError: \x1b[2J\x07red and a second line\u202e"),
    "attribute_missing": ("import", "has no attribute 'plugin'"),
    "hook_misspelled": ("hooks", "unknown hook 'reqplane_payload_codec'"),
    "hook_unmarked": ("hooks", "reqplane_payload_codecs is not marked by @hookimpl"),
    "hook_arguments": ("hooks", "mood"),
    "hook_raises": ("hooks", "reqplane_payload_codecs raised ZeroDivisionError"),
    "hook_exits": ("hooks", "reqplane_payload_codecs raised SystemExit: 3"),
    "answers_none": ("contract", "answered None; wanted a list"),
    "answers_generator": ("contract", "answered <generator object"),
    "answers_text": ("contract", "answered 'codec'; wanted a list"),
    "no_class": ("contract", "is not a class; wanted a subclass of PayloadCodec"),
    "method_missing": ("contract", "Codec lacks decode, which PayloadCodec asks for"),
    "name_missing": ("contract", 'Codec has no name: wanted `name = "…"` in the class'),
    "name_twice": ("contract", "offers the name 'codec' twice"),
    "name_ill_formed": ("contract", "Codec.name is '../codec'; wanted letters, digits, '_' and '-'"),
}
TRANSPORTS = {
    "transport_import_error": ("import", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    "transport_renamed": ("contract", "its transport is named 'another'"),
    "transport_absent": ("contract", "it offers no transport"),
}
OPENED = {
    "open_raises": "Backend.open raised OSError: no route",
    "open_exits": "Backend.open raised SystemExit: 3",
    "open_hangs": "Backend.open did not return within 0.3 s",
    "open_answers_none": "Backend.open answered None; wanted a Discovery",
}


def distribution(folder: str) -> str:
    return f"acme-{folder.replace('_', '-')}"


def assert_names(outcome: Any, folder: str, stage: str, problem: str) -> None:
    """The error tells the plugin, its distribution, the stage and the problem, on one line."""
    assert outcome.error == "PluginBroken"
    assert (outcome.name, outcome.distribution, outcome.stage) == (folder, distribution(folder), stage)
    assert outcome.text.startswith(f"plugin '{folder}' of {distribution(folder)} is broken at {stage}: ")
    assert problem in outcome.text
    assert outcome.text.isprintable()


# ── broken when it is loaded ────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def broken_extensions(make_site: Any) -> dict[str, Any]:
    """What comes of each, by folder: all are installed, and the others left out."""
    site = make_site()
    site.install(*EXTENSIONS)
    others = [",".join(other for other in EXTENSIONS if other != folder) for folder in EXTENSIONS]
    outcomes = site.attempts([{"DYN_DISABLED_EXTENSIONS": names} for names in others])
    return dict(zip(EXTENSIONS, outcomes, strict=True))


@pytest.mark.parametrize("folder", EXTENSIONS)
def test_an_extension_that_is_broken(broken_extensions: Any, folder: str):
    stage, problem = EXTENSIONS[folder]
    outcome = broken_extensions[folder]
    assert_names(outcome, folder, stage, problem)
    assert f"DYN_DISABLED_EXTENSIONS={folder} leaves it out" in outcome.text
    assert outcome.found[distribution(folder)]["broken"] == outcome.text
    assert outcome.status == 0
    assert outcome.printed.replace("\n", "").isprintable()
    assert outcome.complaint == f"\nAs it stands, connect() fails: {outcome.text}\n"
    assert "yes" in next(line for line in outcome.printed.splitlines() if line.startswith("http "))


def test_a_broken_extension_can_be_left_out(site: Any):
    site.install("import_error", "hook_raises", "answers_none")
    outcome = site.attempt(DYN_DISABLED_EXTENSIONS="import_error, hook_raises, answers_none")
    assert outcome.items == [0, 1, 2]
    assert all(outcome.found[f"acme-{name}"]["disabled"] for name in ("import-error", "hook-raises"))
    assert outcome.complaint == ""


@pytest.mark.parametrize("folder", TRANSPORTS)
def test_a_broken_transport_that_is_chosen(site: Any, folder: str):
    stage, problem = TRANSPORTS[folder]
    site.install(folder)
    outcome = site.attempt(DYN_REQUEST_PLANE=f"http,{folder}")
    assert_names(outcome, folder, stage, problem)
    assert outcome.complaint == f"\nAs it stands, connect() fails: {outcome.text}\n"


def test_broken_transports_that_are_not_chosen_hurt_nobody(site: Any):
    site.install(*TRANSPORTS)
    outcome = site.attempt()
    assert outcome.items == [0, 1, 2]
    assert (outcome.status, outcome.complaint) == (0, "")
    for folder, (stage, problem) in TRANSPORTS.items():
        told = outcome.found[distribution(folder)]
        assert not told["chosen"]
        assert f"is broken at {stage}: " in told["broken"]
        assert problem in told["broken"]
        (line,) = [line for line in outcome.printed.splitlines() if line.startswith(f"{folder} ")]
        assert "  broken  " in line
        assert problem in line


# ── broken when it is opened ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("folder", OPENED)
def test_a_backend_that_can_not_be_opened(site: Any, folder: str):
    site.install(folder)
    outcome = site.attempt(DYN_DISCOVERY_BACKEND=folder)
    assert_names(outcome, folder, "open", OPENED[folder])
    assert outcome.found[distribution(folder)]["broken"] is None  # listing opens nothing


def test_a_backend_that_can_not_be_opened_and_is_not_chosen_hurts_nobody(site: Any):
    site.install(*OPENED)
    assert site.attempt().items == [0, 1, 2]


def test_a_transport_that_can_not_be_opened(site: Any):
    site.install("transport_open_raises")
    outcome = site.attempt(DYN_REQUEST_PLANE="transport_open_raises")
    assert_names(outcome, "transport_open_raises", "open", "Transport.open raised OSError: no route")
    assert outcome.cause == "OSError('no route')"


def test_a_codec_that_can_not_be_made(site: Any):
    site.install("make_raises")
    outcome = site.attempt()
    assert_names(outcome, "make_raises", "open", "making a Codec raised OSError: no table")


# ── claimed twice ───────────────────────────────────────────────────────────────────────────────────

CLAIMS = {
    "transport": "the transport 'claimed' is claimed by acme-transport and rival-transport",
    "extension": "the extension 'claimed' is claimed by acme-extension and rival-extension",
    "codec": "the codec 'claimed' is claimed by acme-codec and rival-codec",
    "policy": "the router mode 'claimed' is claimed by acme-policy and rival-policy",
    "discovery": "the discovery backend 'claimed' is claimed by acme-discovery and rival-discovery",
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_two_distributions_claim_one_name(site: Any, kind: str):
    site.install(f"acme_claims_{kind}", f"rival_claims_{kind}")
    outcome = site.attempt(**({"DYN_REQUEST_PLANE": "claimed"} if kind == "transport" else {}))
    assert outcome.error == "PluginConflict"
    assert outcome.text == f"{CLAIMS[kind]}; uninstall all but one"
    assert outcome.found[f"rival-{kind}"]["broken"] == outcome.text
    assert outcome.complaint == f"\nAs it stands, connect() fails: {outcome.text}\n"


def test_a_name_claimed_twice_that_nobody_chose_hurts_nobody(site: Any):
    site.install("acme_claims_transport", "rival_claims_transport")
    outcome = site.attempt()
    assert outcome.items == [0, 1, 2]
    assert "claimed by acme-transport and rival-transport" in outcome.found["acme-transport"]["broken"]


def test_a_name_of_ours_is_claimed(site: Any):
    site.install("name_of_builtin")
    outcome = site.attempt()
    assert outcome.error == "PluginConflict"
    assert outcome.text.startswith("the codec 'json' is claimed by reqplane and acme-name-of-builtin")
    assert site.attempt(DYN_DISABLED_EXTENSIONS="name_of_builtin").items == [0, 1, 2]


# ── not found ───────────────────────────────────────────────────────────────────────────────────────


SLIPS = {
    "request plane": ("DYN_REQUEST_PLANE", "htpp", "http"),
    "discovery backend": ("DYN_DISCOVERY_BACKEND", "clamed", "claimed"),
    "codec": ("DYN_REQUEST_PLANE_CODEC", "clamed", "claimed"),
    "router mode": ("DYN_ROUTER_MODE", "clamed", "claimed"),
}


def test_a_slip_of_the_pen_is_recognized(site: Any):
    site.install(*(f"acme_claims_{kind}" for kind in ("transport", "codec", "policy", "discovery")))
    right = {variable: meant for variable, _, meant in SLIPS.values()}
    envs = [{**right, variable: slip} for variable, slip, _ in SLIPS.values()]
    for (kind, (_, slip, meant)), outcome in zip(SLIPS.items(), site.attempts(envs), strict=True):
        assert outcome.error == "PluginNotFound"
        assert outcome.text.startswith(f"there is no {kind} {slip!r}, did you mean {meant!r}? (installed: ")
        assert meant in outcome.text.partition("(installed: ")[2]
        assert outcome.complaint == f"\nAs it stands, connect() fails: {outcome.text}\n"


def test_routing_by_cache_is_not_there_yet(site: Any):
    outcome = site.attempt(DYN_ROUTER_MODE="kv")
    assert outcome.error == "SettingsError"
    assert outcome.text == "DYN_ROUTER_MODE='kv': routing by KV cache is not there yet"
