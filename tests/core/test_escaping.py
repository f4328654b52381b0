"""Nothing that others sent does anything to a terminal or a log, and no secret is shown."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import pickle
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
import reqplane
from hypothesis import given
from hypothesis import strategies as st
from reqplane import errors
from reqplane.cli import main
from reqplane.cli.call import as_json
from reqplane.cli.tables import table
from reqplane.errors import HandlerFailed, RequestRefused, SettingsError
from reqplane.escaping import escape_log, escape_record, escaped, escaped_json, masked, masked_text
from reqplane.settings import load_all, setting, settings_class, text

DANGEROUS = (
    "\x1b[2J",  # clears a screen
    "\r",  # hides what stood before it
    "\x00\x07\x7f",
    "\x9b31m",  # C1: the same as ESC [
    "\u202e\u2066\u200b\ufeff",  # turns the direction of writing; invisible
    "\u2028\u2029\x85",  # line breaks to some
    "\ud800",  # half a character: can't be printed at all
    "\U000e0041",  # invisible letters
)
NASTY = st.lists(st.one_of(st.sampled_from(DANGEROUS), st.text(max_size=5))).map("".join)
HARMLESS = "naïve 日本語 🙂 \u00a0 'quoted' \\x1b"


def is_harmless(shown: str, keep: str = "") -> bool:
    """Whether nothing in it does anything, but for what is in `keep`."""
    unsafe = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return all(one in keep or unicodedata.category(one) not in unsafe for one in shown)


# ── the words ───────────────────────────────────────────────────────────────────────────────────────


def test_what_it_looks_like():
    assert escaped("a\x1b[2Jb\r\n\tc\x7f\x9b\u202e\ud800") == "a\\x1b[2Jb\\r\n\tc\\x7f\\x9b\\u202e\\ud800"
    assert escaped("a\nb", keep="") == "a\\nb"


def test_what_is_harmless_stays():
    assert escaped(HARMLESS) == HARMLESS
    assert escaped_json(HARMLESS) == HARMLESS


@given(NASTY)
def test_nothing_dangerous_is_left(words: str):
    assert is_harmless(escaped(words), keep="\n\t")
    assert is_harmless(escaped(words, keep=""))
    assert escaped(escaped(words)) == escaped(words)


@given(NASTY)
def test_json_says_the_same_as_before(words: str):
    document = escaped_json(json.dumps({words: [words]}, ensure_ascii=False, indent=2))
    assert is_harmless(document, keep="\n")
    assert json.loads(document) == {words: [words]}


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────


@given(NASTY)
def test_errors_show_nothing_dangerous(words: str):
    for error in (
        HandlerFailed(words, request_id=words, endpoint=words, instance=words, transport=words),
        RequestRefused(words, address=words),
        errors.refusal(words, words),
        errors.NoInstances(endpoint=words, planes=[words], where=words, unusable={words: 1}),
        errors.CannotConnect(words, address=words),
        errors.PluginNotFound("codec", words, [words], words),
        SettingsError([(words, words, words), (words, words, words)]),
        errors.WireError(words),
        errors.DiscoveryUnavailable(words),
    ):
        assert is_harmless(str(error), keep="\n\t")
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_every_error_is_escaped_in_one_place():
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    own = [cls for cls in classes if issubclass(cls, errors.ReqplaneError) and "__str__" in vars(cls)]
    assert own == [errors.ReqplaneError]


def test_an_errors_fields_are_as_they_came():
    error = HandlerFailed("bad \x1b[2J", request_id="r\x1b")
    assert (error.problem, error.request_id) == ("bad \x1b[2J", "r\x1b")
    assert str(error) == "the handler failed: bad \\x1b[2J (request r\\x1b)"


# ── logs ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger like `reqplane`, and nobody else's."""
    logger = logging.getLogger("test-escaping")
    logger.propagate = False
    yield logger
    for name in [name for name in logger.manager.loggerDict if name.startswith("test-escaping")]:
        one = logging.getLogger(name)
        one.handlers.clear()
        one.filters.clear()


class Sink(logging.StreamHandler[Any]):
    """A user's own handler."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        super().__init__(self.text)


class Own(logging.Handler):
    """One that does as it likes with records."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


def test_messages_are_one_line_and_escaped(log: logging.Logger):
    sink = Sink()
    log.addHandler(sink)
    escape_log(log)
    log.warning("request %s: %s", "r\n2026-01-01 forged", "\x1b[2J\u202e")
    assert sink.text.getvalue() == "request r\\n2026-01-01 forged: \\x1b[2J\\u202e\n"


@given(NASTY)
def test_whatever_is_logged(words: str):
    log, sink = logging.getLogger("test-escaping-any"), Sink()
    log.propagate = False
    log.handlers, log.filters = [sink], []
    escape_log(log)
    try:
        raise ValueError(words)
    except ValueError:
        log.exception("failed: %s", words)
    log.getChild("child").warning(words)
    assert is_harmless(sink.text.getvalue(), keep="\n\t")
    assert "Traceback" in sink.text.getvalue()


def test_a_traceback_keeps_its_lines(log: logging.Logger):
    sink = Sink()
    log.addHandler(sink)
    escape_log(log)
    try:
        raise ValueError("bad \x1b[2J")
    except ValueError:
        log.warning("it failed", exc_info=True)
    lines = sink.text.getvalue().splitlines()
    assert lines[:2] == ["it failed", "Traceback (most recent call last):"]
    assert lines[-1] == "ValueError: bad \\x1b[2J"


def test_a_handler_that_formats_exceptions_itself_gets_nothing_dangerous(log: logging.Logger):
    own = Own()
    log.addHandler(own)
    escape_log(log)
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        log.warning("it failed", exc_info=True)
    assert own.seen[0].exc_info is None
    assert "\\x1b[2J" in (own.seen[0].exc_text or "")


@pytest.mark.parametrize("early", [True, False], ids=["child first", "child later"])
def test_children_are_escaped_too(log: logging.Logger, early: bool):
    sink, own = Sink(), Sink()
    if early:
        log.getChild("hypercorn").addHandler(own)
    escape_log(log)
    log.addHandler(sink)
    log.getChild("hypercorn").warning("\x1b[2J")
    assert sink.text.getvalue() == "\\x1b[2J\n"
    assert own.text.getvalue() == ("\\x1b[2J\n" if early else "")


def test_it_survives_a_configuration_of_logging(log: logging.Logger, capsys: pytest.CaptureFixture[str]):
    import logging.config

    escape_log(log)
    configured = {"handlers": {"h": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}}}
    configured |= {"version": 1, "disable_existing_loggers": False, "incremental": False}
    configured |= {"loggers": {log.name: {"handlers": ["h"]}}}
    logging.config.dictConfig(configured)
    log.warning("\x1b[2J")
    assert capsys.readouterr().err == "\\x1b[2J\n"


def test_harmless_records_keep_their_arguments(log: logging.Logger):
    own = Own()
    log.addHandler(own)
    for _ in range(3):
        escape_log(log)
    log.warning("%s and %s", "a", 1)
    assert (own.seen[0].msg, own.seen[0].args) == ("%s and %s", ("a", 1))
    assert [type(one).__name__ for one in log.handlers].count("_Escaping") == 1
    assert log.filters == [escape_record]


def test_a_message_whose_arguments_do_not_fit_harms_nobody(log: logging.Logger, monkeypatch: Any):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.addHandler(Sink())
    escape_log(log)
    log.warning("%d", "x")


ENV = {
    "DYN_REQUEST_PLANE": "http",
    "DYN_DISCOVERY_BACKEND": "mem",
    "DYN_HTTP_RPC_HOST": "127.0.0.1",
    "DYN_HTTP_RPC_PORT": "0",
    "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
    "DYN_TCP_RESPONSE_STREAM_PORT": "0",
}


async def test_a_handlers_error_reaches_log_and_caller_escaped(caplog: pytest.LogCaptureFixture):
    """And the caller sees no traceback."""

    async def fails(request: Any):
        yield 1
        try:
            raise KeyError("inner \x1b[2J")
        except KeyError as error:
            raise ValueError("outer \x1b]0;title\x07\u202e") from error

    async with reqplane.connect(ENV) as runtime:
        serving = asyncio.ensure_future(runtime.endpoint("a.b.c").serve_endpoint(fails))
        client = await runtime.endpoint("a.b.c").client()
        await client.wait_for_instances(timeout=5)
        context = reqplane.Context("id\x1b[2J")
        with pytest.raises(HandlerFailed) as caught:
            async for _ in client.generate(1, context=context):
                pass
        runtime.shutdown()
        await serving
    assert "outer \\x1b]0;title\\x07\\u202e" in str(caught.value)
    assert is_harmless(str(caught.value))
    for shown in (str(caught.value), repr(caught.value), repr(vars(caught.value))):
        assert "Traceback" not in shown
        assert "inner" not in shown
        assert __file__ not in shown
    failed = [record for record in caplog.records if "the handler failed" in record.getMessage()]
    assert failed[0].getMessage() == "request id\\x1b[2J: the handler failed"
    assert "inner \\x1b[2J" in (failed[0].exc_text or "")
    assert all(is_harmless(record.getMessage()) for record in caplog.records)


# ── the command line ────────────────────────────────────────────────────────────────────────────────


@given(st.recursive(NASTY, lambda inner: st.lists(inner) | st.dictionaries(NASTY, inner), max_leaves=5))
def test_a_line_of_json_is_one_line(item: Any):
    line = as_json(item)
    assert is_harmless(line)
    assert json.loads(line) == item


@given(st.lists(st.tuples(NASTY, NASTY), min_size=1))
def test_a_row_of_a_table_is_one_line(rows: list[tuple[str, str]]):
    lines = table(rows).split("\n")
    assert len(lines) == len(rows)
    assert all(map(is_harmless, lines))


def test_complaints_are_escaped(capsys: pytest.CaptureFixture[str]):
    assert main(["serve", "\x1b[2J:\x07", "a.b.c"]) == 2
    assert is_harmless(capsys.readouterr().err, keep="\n")


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http://user:hunter2@host:2379", "http://***@host:2379"),
        ("nats://hunter2@a:1,nats://u:hunter2@b:2", "nats://***@b:2"),
        ("http://u:hunter2/@x@host/path", "http://***@host/path"),
        ("u:hunter2@host:4222", "***@host:4222"),
        ("http://host:2379", "http://host:2379"),
        ("/data@night/kv", "/data@night/kv"),
        ("", ""),
    ],
)
def test_users_and_passwords_are_masked(value: str, shown: str):
    assert masked(value) == shown
    error = SettingsError([("NATS_SERVER", value, f"{value} can't be reached" if "://" in value else "no")])
    assert "hunter2" not in str(error) + repr(error.problems)


def test_a_sentence_with_urls():
    assert masked_text("of http://u:p@h and http://x@y: no") == "of http://***@h and http://***@y: no"


def test_a_secret_setting_is_not_shown():
    def refuse(raw: str) -> str:
        raise ValueError(f"{raw!r} is no token")

    @settings_class
    class Secretive:
        token: str = setting("DYN_TEST_TOKEN", default="", parse=refuse, secret=True)
        server: str = setting("DYN_TEST_SERVER", default="", parse=refuse)
        plain: str = setting("DYN_TEST_PLAIN", default="", parse=text)

    env = {"DYN_TEST_TOKEN": "hunter2", "DYN_TEST_SERVER": "u:hunter2@host"}
    with pytest.raises(SettingsError) as caught:
        load_all([Secretive], env)
    assert "hunter2" not in str(caught.value) + repr(caught.value.problems) + repr(caught.value)
    assert "DYN_TEST_TOKEN='***': '***' is no token" in str(caught.value)
