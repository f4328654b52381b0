"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pages import Page, install

ROOT = Path(__file__).parent.parent.parent
EXPORTS = "export DYN_REQUEST_PLANE=http DYN_DISCOVERY_BACKEND=file\n"


def test_make_has_what_is_typed(readme: Page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shell = "\n".join(block.text for block in readme.blocks if block.language == "sh")
    typed = re.findall(r"^make (.+)$", shell, re.MULTILINE) + re.findall(r"`make ([a-z -]+)`", readme.text)
    assert {target for line in typed for target in line.split()} <= targets


# ── running it ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.system
def test_the_worker_and_the_frontend_run(
    readme: Page, processes: Any, loopback: dict[str, str], tmp_path: Path
):
    readme.write(tmp_path, "worker.py", "frontend.py")
    lines = readme.start_lines()
    worker = processes.start(lines["worker.py"], loopback, tmp_path)
    status, printed = processes.run(lines["frontend.py"], loopback, tmp_path)
    assert (status, printed) == (0, readme.under("A worker and a frontend", "text")[0])
    status, printed = processes.stop(worker)
    assert status == 0, printed


@pytest.mark.system
def test_the_command_line_prints_what_is_shown(
    readme: Page, processes: Any, loopback: dict[str, str], tmp_path: Path
):
    readme.write(tmp_path, "worker.py")
    serve, calls = readme.under("The command line", "console")
    ((command, shown),) = commands(serve)
    worker = processes.start(EXPORTS + command, loopback, tmp_path)
    status = 0
    for call, wanted in commands(calls):
        if call == "echo $?":
            printed = f"{status}\n"
        else:  # in a shell of its own, for a pipe can't follow an exec
            status, printed = processes.run(f"{EXPORTS}sh -c {quoted(call)}", loopback, tmp_path)
        assert without_chance(printed) == without_chance(wanted)
    status, printed = processes.stop(worker)
    assert status == 0
    assert without_chance(printed).startswith(without_chance(shown))


def commands(console: str) -> list[tuple[str, str]]:
    """A shell session: each line that was typed, with what came."""
    parts = re.split(r"^\$ (.+)\n", console, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


def without_chance(text: str) -> str:
    """With what differs from run to run replaced: times, ages, addresses, request ids.

    The conformance suite is installed here, and is not where the reader is: its plugin is left out.
    """
    text = re.sub(r"^memory .*\n", "", text, flags=re.MULTILINE).replace(" memory,", "")
    text = re.sub(r"(?<=\S) {2,}", "  ", text)  # columns are as wide as that plugin's row too
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", "TIME", text)
    text = re.sub(r"\d+\.\d+\.\d+\.\d+:\d+", "ADDRESS", text)
    text = re.sub(r"(AGE|\d+ s) +(?=ADDRESS$|http)", "AGE ", text, flags=re.MULTILINE)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"^ +\d+\.\d ms", "MS", text, flags=re.MULTILINE)
    return re.sub(r"\d+\.\d ms", "N ms", text)


@pytest.mark.system
def test_the_plugin_keeps_a_session_at_one_worker(
    readme: Page, processes: Any, loopback: dict[str, str], tmp_path: Path
):
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    readme.write(source, "reqplane_sticky.py", "pyproject.toml")
    install(source, site)
    readme.write(tmp_path, "worker.py")
    env = loopback | {"PYTHONPATH": str(site)}
    for _ in range(2):
        processes.start(f"{EXPORTS}python worker.py", env, tmp_path)
    listing = f"{EXPORTS}reqplane instances --json"
    while processes.run(listing, env, tmp_path)[1].count('"path"') < 2:
        pass
    _, export, call = readme.under("Writing a plugin", "sh")[0].strip().splitlines()
    answered: dict[str, set[str]] = {}
    for session in "abcabcabcdefghij":
        typed = call.replace("call", "call -v").replace('"a"', f'"{session}"')
        status, printed = processes.run(f"{EXPORTS}{export}\n{typed}", env, tmp_path)
        assert status == 0, printed
        assert printed.count('{"i": ') == 3
        answered.setdefault(session, set()).update(re.findall(r"instance (\d) by", printed))
    assert all(len(workers) == 1 for workers in answered.values())
    assert set.union(*answered.values()) == {"0", "1"}
