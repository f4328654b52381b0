"""The plugins that the pages write-a-*.md show work as they stand there."""

from __future__ import annotations

import importlib.util
import json
import signal
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pages import Page, install
from reqplane.errors import PayloadError

ROOT = Path(__file__).parent.parent.parent
EXPORTS = "export DYN_REQUEST_PLANE=http DYN_DISCOVERY_BACKEND=file\n"
PATH = "default.backend.generate"
pytestmark = pytest.mark.system

Installed = Callable[..., tuple[Page, dict[str, str]]]
"""Installs the plugin of a page: (page, its module) gives the page, and variables for a shell that has it."""


@pytest.fixture
def installed(loopback: Mapping[str, str], readme: Page, tmp_path: Path) -> Installed:
    def install_page(name: str, module: str) -> tuple[Page, dict[str, str]]:
        page = Page((ROOT / "docs" / name).read_text())
        source, site = tmp_path / "source", tmp_path / "site"
        source.mkdir()
        page.write(source, module, "pyproject.toml")
        install(source, site)
        readme.write(tmp_path, "worker.py", "frontend.py")
        return page, {**loopback, "PYTHONPATH": str(site), "PYTHONWARNINGS": "error::ResourceWarning"}

    return install_page


def exports(page: Page) -> tuple[str, str]:
    """What is typed to choose the plugin, and the line that shows that it is chosen."""
    _, *lines, last = page.under("Using it", "sh")[0].strip().splitlines()
    return "\n".join(lines) + "\n", last


def module_of(page: str, name: str, folder: Path) -> Any:
    """What the page shows, imported from a file of its own."""
    Page((ROOT / "docs" / page).read_text()).write(folder, name)
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), folder / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_discovery_backend(installed: Installed, readme: Page, processes: Any, tmp_path: Path):
    """The README's worker and frontend find each other by it; a worker that is killed goes with its lease."""
    page, env = installed("write-a-discovery-backend.md", "reqplane_sqlite.py")
    typed, plugins = exports(page)
    typed = "export DYN_REQUEST_PLANE=http\n" + typed.replace("/tmp", str(tmp_path))
    assert "discovery backend sqlite*" in processes.run(typed + plugins, env, tmp_path)[1]
    env |= {"SQLITE_DISCOVERY_TTL": "2"}
    worker = processes.start(f"{typed}python worker.py", env, tmp_path)
    status, printed = processes.run(f"{typed}python frontend.py", env, tmp_path)
    assert (status, printed) == (0, readme.under("A worker and a frontend", "text")[0])

    listing = f"{typed}reqplane instances --json"
    victim = processes.start(f"{typed}python worker.py", env, tmp_path)
    while processes.run(listing, env, tmp_path)[1].count(PATH) < 2:
        assert victim.poll() is None, processes.output(victim)
    victim.send_signal(signal.SIGKILL)
    while processes.run(listing, env, tmp_path)[1].count(PATH) > 1:
        pass
    status, printed = processes.stop(worker)
    assert status == 0, printed
    assert "found by sqlite" in printed
    assert "Traceback" not in printed
    assert PATH not in processes.run(listing, env, tmp_path)[1]


def test_a_codec(installed: Installed, readme: Page, processes: Any, tmp_path: Path):
    """Only the worker chooses it; the frontend has it, and a frontend without it says what is missing."""
    page, env = installed("write-a-codec.md", "reqplane_jsonz.py")
    typed, plugins = exports(page)
    assert "codec jsonz*" in processes.run(typed + plugins, env, tmp_path)[1]
    worker = processes.start(f"{EXPORTS}{typed}python worker.py", env, tmp_path)
    status, printed = processes.run(f"{EXPORTS}python frontend.py", env, tmp_path)
    assert (status, printed) == (0, readme.under("A worker and a frontend", "text")[0])
    without = {name: value for name, value in env.items() if name != "PYTHONPATH"}
    call = f"{EXPORTS}reqplane call {PATH} '{{\"n\": 1}}'"
    status, printed = processes.run(call, without, tmp_path)
    assert status == 1
    assert "codec 'jsonz', which is not installed here" in printed
    assert processes.run(call, env, tmp_path) == (0, '{"i": 0}\n')
    assert processes.stop(worker)[0] == 0


@pytest.mark.parametrize("value", [None, 1.5, "é", [], {"a": [{"b": "c" * 5000}] * 400}], ids=type)
def test_the_codec_carries_values(value: object, tmp_path: Path):
    codec = module_of("write-a-codec.md", "reqplane_jsonz.py", tmp_path).JsonzCodec()
    data = codec.encode(value)
    assert isinstance(data, bytes)
    assert len(data) < 100_000
    for form in (data, bytearray(data), memoryview(data)):
        assert codec.decode(form) == value


def test_the_codec_refuses_what_is_not_its_own(tmp_path: Path):
    module = module_of("write-a-codec.md", "reqplane_jsonz.py", tmp_path)
    codec = module.JsonzCodec()
    endless: list[Any] = []
    endless.append(endless)
    for value in (float("nan"), b"bytes", {1, 2}, "\ud800", endless, [[]] * 500_001):
        with pytest.raises(PayloadError):
            codec.encode(value)
    bomb = zlib.compress(bytes(module.MAX_TEXT + 1))
    whole = b"z" + zlib.compress(json.dumps("x" * 5000).encode())
    many = b"z" + zlib.compress(b"[" + b"[]," * 500_000 + b"[]]")
    wrong = [b"", b"j", b"jNaN", b"x1", b"j\xff", b"z123", b"z" + bomb, whole[:-1], whole + b"1", many]
    wrong += [b"j" + b"[" * 100_000, b"j" + b"9" * 10_000]
    for data in wrong:
        with pytest.raises(PayloadError):
            codec.decode(data)
