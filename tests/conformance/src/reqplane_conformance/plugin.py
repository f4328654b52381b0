"""The pytest plugin: options, collection, verdicts, and the table at the end.

An entry point of the group pytest11 names it, so the options are there before anything is collected.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from reqplane.plugins import DISCOVERY, REQUEST_PLANE, RESPONSE

from reqplane_conformance.case import SetAside, is_case, test_case
from reqplane_conformance.options import add_options, chosen, strain_of, subject_of, wanted_kind
from reqplane_conformance.report import PROPERTY, Results, told
from reqplane_conformance.stage import Stage
from reqplane_conformance.suite import Conformance
from reqplane_conformance.verdict import Nonconformance

_HERE = Path(__file__).parent
_FILES = {
    "test_request.py": REQUEST_PLANE.what,
    "test_response.py": RESPONSE.what,
    "test_discovery.py": DISCOVERY.what,
}
"""What `--pyargs reqplane_conformance` finds, and which kind of subject each file is for."""
_MISUSE = pytest.StashKey[pytest.UsageError]()
_CLASSES = pytest.StashKey[dict[Any, None]]()
"""The conformance classes that were collected."""


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CLASSES] = {}
    config.pluginmanager.register(Results(config), "reqplane_conformance_results")


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> Generator[None, object, object]:
    """Hard times last as long as the session, in each of its processes that runs tests."""
    result = yield
    if not session.config.getoption("--collect-only"):
        with ExitStack() as straining:
            straining.enter_context(strain_of(session.config).applied())
            session.config.add_cleanup(straining.pop_all().close)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Cases ask for the garbage now and then, and look at all that is there; so not at what pytest holds."""
    if not session.config.stash[_CLASSES]:
        return (yield)
    gc.collect()
    gc.freeze()
    try:
        return (yield)
    finally:
        gc.unfreeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of the suite's own files, only the one for the subject's kind is collected."""
    if collection_path.parent != _HERE or collection_path.name not in _FILES:
        return None
    try:
        return _FILES[collection_path.name] != wanted_kind(config) or None
    except pytest.UsageError as error:
        config.stash[_MISUSE] = error  # raised from here it would be told as a broken file
        return True


def pytest_itemcollected(item: pytest.Item) -> None:
    """`-k` knows a case by its id and its group, too."""
    function = getattr(item, "function", None)
    if _is_conformance(cls := getattr(item, "cls", None)) and is_case(function):
        item.config.stash[_CLASSES][cls] = None
        item.extra_keyword_matches.add(test_case(function).id)


def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Every conformance class has the suite's own cases: also one that was changed after it was made."""
    if (misuse := session.config.stash.get(_MISUSE, None)) is not None:
        raise misuse
    classes: list[Any] = [getattr(item, "cls", None) for item in items]
    found = dict.fromkeys(filter(_is_conformance, classes))
    if not chosen(session.config) and (gone := set(session.config.stash[_CLASSES]) - set(found)):
        names = ", ".join(sorted(cls.__qualname__ for cls in gone))
        raise pytest.UsageError(f"all cases of {names} were left out after they had been collected")
    for cls in found:
        try:
            cls.check_unchanged()
        except TypeError as error:
            raise pytest.UsageError(str(error)) from error


def _is_conformance(cls: object) -> bool:
    return inspect.isclass(cls) and issubclass(cls, Conformance)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A verdict is told in its own words; what the results need goes along with the report."""
    report = yield
    function = getattr(item, "function", None)
    cls: Any = getattr(item, "cls", None)
    if not (_is_conformance(cls) and function is not None and is_case(function)):
        return report
    case = test_case(function)
    error = call.excinfo.value if call.excinfo is not None else None
    blame, message = case.id, ""
    if report.failed:
        if isinstance(error, Nonconformance):
            blame = error.blame or case.id
            message = error.text()
            report.longrepr = f"{case.id}: {case.sentence}\n\n{message}"
        else:
            message = f"{type(error).__name__}: {error}"
    subject = getattr(cls, cls.subject_name, None) or subject_of(item.config, cls.kind)
    aside = isinstance(error, SetAside)
    about = told(cls, subject, case, blame, message, aside)
    about["ran"] = not (report.when == "call" and report.passed) or _ran(item)
    report.user_properties.append((PROPERTY, about))
    return report


def _ran(item: pytest.Item) -> bool:
    """Whether the case itself ran, to its end, on a stage of the suite."""
    stage: Any = getattr(item, "funcargs", {}).get("stage")
    return isinstance(stage, Stage) and stage.ran
