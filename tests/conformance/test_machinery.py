"""How a suite is run: what is a failure and what it says, what nobody can change, and the exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from .toys import RIGHT, Run, pytest_run, toy_run


def one_case(body: str, decoration: str = "@case()") -> str:
    head = f'{decoration}\nasync def test_one(self, stage):\n    """It stands for a rule."""\n'
    return "\n" + indent(head + indent(body, "    ") + "\n", "    ")


# ── verdicts ────────────────────────────────────────────────────────────────────────────────────────


def test_a_right_subject_passes(tmp_path: Path):
    run = toy_run(tmp_path, RIGHT, capabilities="True, True, True, True, True")
    assert run.status == 0, run.printed
    assert "level: full" in run.printed
    assert run.result["level"] == "full"
    assert run.outcomes == {"toy.right": "passed"}
    assert run.report["versions"].keys() == {"reqplane", "reqplane-conformance", "python"}


def test_a_failure_says_what_was_done_what_was_expected_and_where_to_look(tmp_path: Path):
    run = toy_run(tmp_path, one_case('fail("it sang", "silence", "the throat")'))
    assert run.status == 1
    for line in ("begin here: toy.one", "it did:    it sang", "expected:  silence", "look at:   the throat"):
        assert line in run.printed
    assert "It stands for a rule." in run.printed
    assert run.result["level"] == "none"
    assert "Traceback" not in run.printed


def test_what_was_raised_is_shown(tmp_path: Path):
    body = 'with expected(DiscoveryError, when="always"):\n    {}["key"]'
    imports = (
        "from reqplane.errors import DiscoveryError\nfrom reqplane_conformance.verdict import expected\n"
    )
    run = toy_run(tmp_path, one_case(body), more=f"\n{imports}")
    assert "KeyError: 'key'" in run.printed


def test_of_several_failures_the_one_that_explains_the_others_is_told_first(tmp_path: Path):
    cases = "".join(
        f"\n    @case(priority={priority})\n    async def test_{name}(self, stage):\n"
        f'        """It is {name}."""\n        fail("{name}", "else", blame="{blame}")\n'
        for name, priority, blame in (("a", 5, ""), ("b", 5, "toy.c"), ("c", 2, ""), ("d", 5, "toy.c"))
    )
    run = toy_run(tmp_path, cases)
    summary = run.printed.partition("= conformance:")[2]
    assert summary.index("begin here: toy.c  (found by toy.b, toy.d)") < summary.index("\ntoy.a")
    assert "\ntoy.b" not in summary


MISSING = 'NotImplementedError("sing() in toy.py: open the mouth")'
LOG = 'logging.getLogger("reqplane")'
SILENT = 'fail("it was silent", "a song")'
NOT_WRITTEN = {
    "raised": f"raise {MISSING}",
    "behind another": f"try: raise {MISSING}\nexcept Exception as error: raise OSError() from error",
    "a value of what is logged": f'{LOG}.warning("ended: %r", {MISSING})\n{SILENT}',
    "logged with its traceback": f"try: raise {MISSING}\nexcept Exception: {LOG}.exception('')\n{SILENT}",
}


@pytest.mark.parametrize("how", NOT_WRITTEN.values(), ids=NOT_WRITTEN)
def test_what_is_not_written_yet_is_told_first(tmp_path: Path, how: str):
    cases = one_case('fail("x", "y")', "@case(priority=1)") + one_case(how).replace("test_one", "test_two")
    run = toy_run(tmp_path, cases)
    assert run.status == 1
    summary = run.printed.partition("= conformance:")[2]
    assert "begin here: not written yet  (found by toy.two)" in summary
    assert "it raised NotImplementedError: sing() in toy.py: open the mouth" in summary


def test_what_can_not_be_opened_is_told_once(tmp_path: Path):
    fails = "async def fails(host): raise ValueError('no')\nstage.subject.open = fails\nawait stage.open()"
    cases = one_case(fails) + one_case(fails).replace("test_one", "test_two")
    run = toy_run(tmp_path, cases)
    assert run.status == 1
    summary = run.printed.partition("= conformance:")[2]
    assert "begin here: open  (found by toy.one, toy.two)" in summary
    assert summary.count("it did:    open raised ValueError: no") == 1


def test_what_is_not_written_and_not_missed_is_not_told(tmp_path: Path):
    body = f'{LOG}.warning("ended: %r", {MISSING})'
    assert toy_run(tmp_path, one_case(body)).status == 0


# ── what is left over, and what never ends ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("self.t = asyncio.create_task(asyncio.sleep(99), name='lost')", "1 of its tasks still ran: lost"),
        ("stage.suite.__class__.kept = socket.socket()", "1 of its sockets were still open"),
        (
            "threading.Thread(target=time.sleep, args=(3,), name='lost', daemon=True).start()",
            "its threads still ran: lost",
        ),
        ("_, host = await stage.open(); host.inflight.take(7)", "7 bytes were still taken"),
        ("_, host = await stage.open(); host.timers.at(1e12, print)", "1 timers of Host.timers"),
        ("asyncio.get_running_loop().call_soon(lambda: 1 / 0); await asyncio.sleep(0)", "ZeroDivisionError"),
    ],
)
def test_leftovers_are_found_and_blamed_on_their_case(tmp_path: Path, body: str, said: str):
    run = toy_run(tmp_path, one_case(body))
    assert run.status == 1
    assert said in run.printed
    assert "begin here: toy.nothing_left_over  (found by toy.one)" in run.printed


def test_what_nobody_holds_is_not_left_over(tmp_path: Path):
    """As a connection that asyncio was accepting when its server was closed."""
    body = "knot = [socket.socket()]\nknot.append(knot)\ndel knot"
    assert toy_run(tmp_path, one_case(body)).status == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("await asyncio.Event().wait()", "the case did not end within 0.2 s; it waited at"),
        (
            "while True:\n    try: await asyncio.sleep(99)\n    except asyncio.CancelledError: pass",
            "the case did not end within 0.2 s, and withstood being cancelled",
        ),
    ],
)
def test_what_does_not_end_is_ended(tmp_path: Path, body: str, said: str):
    run = toy_run(tmp_path, one_case(body, "@case(within=0.2)"))
    assert run.status == 1
    assert said in run.printed


def test_what_blocks_the_loop_is_ended(tmp_path: Path):
    conftest = "import reqplane_conformance.running as running\nrunning._CLOSING = 0.2\n"
    run = toy_run(tmp_path, one_case("time.sleep(40)", "@case(within=0.2)"), conftest=conftest)
    assert run.status == 1
    assert "it kept the event loop busy" in run.printed


ENDLESS = """
    async def aclose(self): await asyncio.sleep(99)
"""


def test_closing_that_does_not_end_is_blamed_on_its_case(tmp_path: Path):
    """Each of several waits, and none of them withstands."""
    conftest = "import reqplane_conformance.running as running\nrunning._CLOSING = 0.2\n"
    body = "await stage.open()\nawait stage.open()\nawait stage.open()"
    more = f"\nclass Endless(Toy):{ENDLESS}\nTestToy.transport = Endless\n"
    run = toy_run(tmp_path, one_case(body), more=more, conftest=conftest)
    assert run.status == 1
    assert "begin here: toy.nothing_left_over  (found by toy.one)" in run.printed
    assert "closing everything did not end within 0.2 s; it waited at" in run.printed
    assert "Endless.aclose, test_toy.py" in run.printed


CANCELLED = """
    async def aclose(self): raise asyncio.CancelledError
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise asyncio.CancelledError", "CancelledError came out, in the middle of the case"),
        ('await stage.open()\nfail("it sang", "silence")', "it did:    it sang"),
        ("await stage.open()", "it did:    aclose raised CancelledError"),
    ],
)
def test_what_is_cancelled_by_mistake_is_a_verdict(tmp_path: Path, body: str, said: str):
    more = f"\nclass Cancelled(Toy):{CANCELLED}\nTestToy.transport = Cancelled\n"
    run = toy_run(tmp_path, one_case(body), more=more)
    assert run.status == 1
    assert said in run.printed


@pytest.mark.parametrize("others", [False, True])
def test_the_first_thing_to_do_is_the_last_that_is_printed(tmp_path: Path, others: bool):
    """pytest's own list of failures follows only where others failed too."""
    more = "\ndef test_else(): assert False\n" if others else ""
    run = toy_run(tmp_path, one_case('fail("it sang", "silence")'), more=more)
    assert ("short test summary" in run.printed) == others


# ── capabilities ────────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_claimed_is_not_tried(tmp_path: Path):
    run = toy_run(tmp_path, RIGHT + one_case('fail("x", "y")', '@case(needs=("headers",))'))
    assert run.status == 0, run.printed
    assert run.result["level"] == "base"
    assert "skipped  toy.one: not claimed: headers" in run.printed
    assert "for full it lacks: headers, refusals" in run.printed


def test_what_is_claimed_and_not_shown_is_no_level(tmp_path: Path):
    body = 'stage.not_exercised("nobody says how")'
    run = toy_run(tmp_path, RIGHT + one_case(body, '@case(needs=("headers",))'), capabilities="headers=True")
    assert run.result["level"] == "none"
    assert "skipped  toy.one: not exercised: nobody says how" in run.printed


# ── nobody changes the cases ────────────────────────────────────────────────────────────────────────


def fails_by_the_guard(run: Run) -> bool:
    return run.status not in (0, 1) and "overrides or deletes toy.right" in run.printed


@pytest.mark.parametrize("member", ["test_right = None", "def test_right(self): pass"])
def test_a_case_can_not_be_overridden(tmp_path: Path, member: str):
    assert fails_by_the_guard(toy_run(tmp_path, RIGHT, more=f"    {member}\n"))


@pytest.mark.parametrize("line", ["TestToy.test_right = lambda self: None", "ToySuite.test_right = print"])
def test_nor_replaced_later(tmp_path: Path, line: str):
    assert fails_by_the_guard(toy_run(tmp_path, RIGHT + one_case("pass"), more=f"\n{line}\n"))


def test_nor_deleted_later(tmp_path: Path):
    assert fails_by_the_guard(toy_run(tmp_path, RIGHT + one_case("pass"), more="\ndel ToySuite.test_right\n"))


@pytest.mark.parametrize("mark", ["skip", "xfail"])
def test_a_mark_does_not_help(tmp_path: Path, mark: str):
    run = toy_run(tmp_path, one_case('fail("x", "y")'), more=f"\nTestToy.pytestmark = pytest.mark.{mark}\n")
    assert run.result["level"] == "none"


def test_a_case_that_a_conftest_leaves_out_fails_the_run(tmp_path: Path):
    conftest = "def pytest_collection_modifyitems(items): del items[0]\n"
    run = toy_run(tmp_path, RIGHT + one_case("pass"), conftest=conftest)
    assert run.status == 1
    assert run.result["level"] == "none"


def test_one_case_may_be_chosen(tmp_path: Path):
    run = toy_run(tmp_path, RIGHT + one_case("pass"), "-k", "right")
    assert run.status == 0
    assert run.result["level"] == "none"


def test_a_case_may_be_chosen_by_its_id(tmp_path: Path):
    run = toy_run(tmp_path, RIGHT + one_case("pass"), "-k", "toy.one")
    assert run.outcomes == {"toy.right": "not run", "toy.one": "passed"}


def test_a_case_needs_a_sentence(tmp_path: Path):
    run = toy_run(tmp_path, "\n    @case()\n    async def test_dumb(self, stage): pass\n")
    assert "toy.dumb needs one sentence as its docstring" in run.printed


def test_results_come_together_from_several_processes(tmp_path: Path):
    run = toy_run(tmp_path, RIGHT + one_case('fail("it sang", "silence")'), "-p", "xdist", "-n", "2")
    assert run.status == 1
    assert run.outcomes == {"toy.right": "passed", "toy.one": "failed"}
    assert run.printed.count("begin here: toy.one") == 1


# ── the command line ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the conformance suite has nothing to try: add --transport NAME"),
        (
            ["--transport", "htpt"],
            "no installed plugin offers a request plane or response plane",
        ),
        (["--transport", "file"], "'file' is a discovery backend, so type --discovery file"),
        (["--discovery", "http"], "'http' is a request plane, so type --transport http"),
        (["--transport", "http", "--discovery", "file"], "got both"),
        (["--transport", "http", "--transport", "tcp"], "--transport http, tcp: a run tries one subject"),
        (["--transport", "memory"], "this plane never leaves its process"),
    ],
)
def test_a_missing_or_unknown_name_is_a_usage_error(tmp_path: Path, arguments: list[str], said: str):
    run = pytest_run(tmp_path, "--pyargs", "reqplane_conformance", *arguments)
    assert run.status == pytest.ExitCode.USAGE_ERROR
    assert said in run.printed
    assert "passed" not in run.printed


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ('"http"', "TestMine.transport is 'http': wanted the class that is to be tried"),
        ("MemoryResponses", "a response plane: this suite is for a request plane"),
        ("None", "set its `transport` to the class to be tried, or add --transport NAME"),
    ],
)
def test_a_class_that_names_no_subject_of_its_kind_is_told(tmp_path: Path, subject: str, said: str):
    text = (
        "from reqplane_conformance import RequestTransportConformance\n"
        "from reqplane_conformance.memory.responses import MemoryResponses\n"
        f"class TestMine(RequestTransportConformance):\n    transport = {subject}\n"
    )
    (tmp_path / "test_mine.py").write_text(text)
    run = pytest_run(tmp_path, "-k", "byte_for_byte")
    assert run.status not in (0, 1)
    assert said in run.printed
    assert "INTERNALERROR" not in run.printed


def test_an_empty_name_is_a_usage_error(tmp_path: Path):
    run = pytest_run(tmp_path, "--pyargs", "reqplane_conformance", "--transport", "", by_entry_point=True)
    assert run.status == pytest.ExitCode.USAGE_ERROR


def test_nothing_of_it_shows_where_nothing_is_tried(tmp_path: Path):
    (tmp_path / "test_else.py").write_text("def test_else(): pass\n")
    run = pytest_run(tmp_path)
    assert run.status == 0
    assert "conformance" not in run.printed.partition("collected")[2]


@pytest.mark.parametrize("kind", ["request", "response", "discovery"])
def test_its_processes_begin_quickly(kind: str):
    """A run starts a hundred of them: pytest, and the cases, would take as long as all else."""
    loaded = f"import sys, reqplane_conformance.{kind}.process; print('pytest' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout == "False\n", done.stderr
