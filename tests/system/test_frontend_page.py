"""What docs/frontend.md shows works as it stands there."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import test_readme
from pages import Page
from reqplane.front.problems import STATUSES

ROOT = Path(__file__).parent.parent.parent
EXPORTS = test_readme.EXPORTS


@pytest.fixture(scope="module")
def page() -> Page:
    return Page((ROOT / "docs" / "frontend.md").read_text())


@pytest.mark.system
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl_prints_what_is_shown(
    readme: Page, page: Page, processes: Any, loopback: dict[str, str], tmp_path: Path
):
    readme.write(tmp_path, "worker.py")
    worker = processes.start(f"{EXPORTS}python worker.py", loopback, tmp_path)
    (start, calls) = page.under("The HTTP front", "console")
    ((command, told),) = test_readme.commands(start)
    front = processes.start(EXPORTS + command.replace("8000", "0"), loopback, tmp_path)
    while not (found := re.search(r"HTTP front on http://127.0.0.1:(\d+),", processes.output(front))):
        assert front.poll() is None, processes.output(front)
        time.sleep(0.05)
    port = found[1]
    assert without_chance(processes.output(front), port) == without_chance(told, "8000")
    while '"workers":1' not in processes.run(f"curl -sS localhost:{port}/health", loopback, tmp_path)[1]:
        time.sleep(0.05)
    for typed, wanted in test_readme.commands(calls):
        shell = f"sh -c {test_readme.quoted(typed.replace('8000', port))}"
        status, printed = processes.run(shell, loopback, tmp_path)
        assert (status, without_chance(printed, port)) == (0, without_chance(wanted, "8000"))
    assert processes.stop(front)[0] == 0
    assert processes.stop(worker)[0] == 0


def without_chance(text: str, port: str) -> str:
    text = re.sub(
        r"the body is not JSON: [^\"]*", "the body is not JSON: WHY", text
    )  # msgspec has other words
    return test_readme.without_chance(text.replace(port, "PORT"))


def test_every_status_is_told(page: Page):
    rows = dict(re.findall(r"^\| (\d{3}) \| (.+) \|$", page.text, re.MULTILINE))
    for cls, status in STATUSES.items():
        known = rows[str(int(status))]
        assert cls.__name__ in known or cls.__name__ in ("RequestRefused", "DiscoveryError"), cls
