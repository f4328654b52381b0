"""No level and no good exit status for what was not shown, whoever left it out and however."""

from __future__ import annotations

from pathlib import Path

import pytest

from .toys import RIGHT, Run, toy_run

TWICE = '''
    @pytest.mark.parametrize("number", [1, 2])
    @case()
    async def test_twice(self, stage, number):
        """It is right."""
        if number == 2: fail("it sang", "silence")
'''
WRONG = '''
    @case()
    async def test_wrong(self, stage):
        """It is wrong."""
        fail("it sang", "silence")
'''
LEAVE_OUT = "def pytest_collection_modifyitems(items): items[:] = [item for item in items if {kept}]\n"
SKIP = "\nTestToy.pytestmark = pytest.mark.skip(reason='{reason}')\n"
OWN_STAGE = """
    @pytest.fixture
    def stage(self):
        class Lenient:
            def run(self, *_): pass
        return Lenient()
"""
OWN_STAGE_CLASS = """
class Lenient(ToyStage):
    def run(self, *_): pass
TestToy.stage_class = Lenient
"""
REDEFINED = '''
class TestMine(ToySuite, suite=True):
    transport = Toy
    @case()
    async def test_wrong(self, stage):
        """It is right now."""
'''
EVERY = "True, True, True, True, True"


def tried(folder: Path, cases: str, *arguments: str, more: str = "", conftest: str = "") -> Run:
    return toy_run(folder, cases, *arguments, capabilities=EVERY, more=more, conftest=conftest)


@pytest.mark.parametrize(
    "arguments", [("-k", "not 2"), ("--deselect", "test_toy.py::TestToy::test_twice[2]")]
)
def test_a_case_has_not_passed_before_it_ran_with_each_of_its_parameters(
    tmp_path: Path, arguments: tuple[str, str]
):
    run = tried(tmp_path, RIGHT + TWICE, *arguments)
    assert (run.status, run.result["level"]) == (0, "none")
    assert run.outcomes == {"toy.right": "passed", "toy.twice": "not run"}
    assert "1 of its 2 runs" in {case["reason"] for case in run.result["cases"]}


@pytest.mark.parametrize(
    ("more", "conftest"),
    [
        ("", LEAVE_OUT.format(kept="'[2]' not in item.name")),
        (SKIP.format(reason="not today"), ""),
        (SKIP.format(reason="does not apply to us"), ""),
        (OWN_STAGE, ""),
        (OWN_STAGE_CLASS, ""),
        ("", "def pytest_pyfunc_call(pyfuncitem): return True\n"),
    ],
    ids=["parameters", "a mark", "a reason", "a stage", "a class of stages", "who runs it"],
)
def test_what_was_not_shown_fails_the_run(tmp_path: Path, more: str, conftest: str):
    run = tried(tmp_path, TWICE, more=more, conftest=conftest)
    assert (run.status, run.result["level"]) == (1, "none"), run.printed


def test_that_a_run_may_end_early_does_not_help(tmp_path: Path):
    conftest = LEAVE_OUT.format(kept="'wrong' not in item.name")
    assert tried(tmp_path, RIGHT + WRONG, "--maxfail=5", conftest=conftest).status == 1


def test_all_cases_of_a_class_can_not_be_left_out(tmp_path: Path):
    conftest = LEAVE_OUT.format(kept="not item.cls")
    run = tried(tmp_path, WRONG, more="\ndef test_else(): pass\n", conftest=conftest)
    assert run.status == pytest.ExitCode.USAGE_ERROR
    assert "all cases of TestToy were left out" in run.printed


@pytest.mark.parametrize(
    ("more", "said"),
    [("    cases = {}\n", "TestToy sets `cases`"), (REDEFINED, "TestMine overrides toy.wrong")],
)
def test_the_table_of_cases_is_the_suites_own(tmp_path: Path, more: str, said: str):
    run = tried(tmp_path, WRONG, more=more)
    assert run.status not in (0, 1)
    assert said in run.printed


@pytest.mark.parametrize(
    "wrong", ["Toy.capabilities = Capabilities", "Toy.capabilities = {}", "del Toy.capabilities"]
)
def test_capabilities_of_another_kind_are_told(tmp_path: Path, wrong: str):
    run = tried(tmp_path, RIGHT, more=f"\n{wrong}\n")
    assert (run.status, run.result["level"]) == (1, "none")
    assert "begin here: capabilities" in run.printed
    assert "it did:    its `capabilities` is" in run.printed
