"""What docs/write-a-transport.md shows is a request plane that works."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pages import Page, install
from reqplane import errors
from reqplane.interfaces import Delivery
from reqplane.model import NEVER, EndpointId, Instance, Limits, Served
from reqplane.wire.frame import Frame

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def page() -> Page:
    return Page((ROOT / "docs" / "write-a-transport.md").read_text())


@pytest.mark.system
def test_the_plugin_carries_calls(
    page: Page, readme: Page, processes: Any, loopback: dict[str, str], tmp_path: Path
):
    """Installed as its section says; then the README's own worker and frontend use it."""
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    page.write(source, "reqplane_uds.py", "pyproject.toml")
    install(source, site)

    exports = "export DYN_DISCOVERY_BACKEND=file\n"
    _, export, plugins = page.under("Using it", "sh")[0].strip().splitlines()
    exports += f"{export}\n"
    env = loopback | {"PYTHONPATH": str(site), "PYTHONWARNINGS": "error::RuntimeWarning"}
    status, printed = processes.run(exports + plugins, env, tmp_path)
    assert status == 0
    assert "request plane uds*" in printed

    readme.write(tmp_path, "worker.py", "frontend.py")
    worker = processes.start(f"{exports}python worker.py", env, tmp_path)
    status, printed = processes.run(f"{exports}python frontend.py", env, tmp_path)
    assert (status, printed) == (0, readme.under("A worker and a frontend", "text")[0])
    call = f"{exports}reqplane call --instance 7 default.backend.generate 1"
    assert processes.run(call, env, tmp_path)[0] == 1
    status, printed = processes.stop(worker)
    assert status == 0, printed
    assert "on uds, found by file" in printed
    assert "Traceback" not in printed
    assert not list(Path(env["TMPDIR"]).glob("reqplane-uds-*")), "the worker left its socket behind"


async def test_the_plugin_tells_what_happened(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Delivered, refused, too large, gone: each as `reqplane.interfaces` wants it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    page.write(tmp_path, "reqplane_uds.py")
    spec = importlib.util.spec_from_file_location("reqplane_uds", tmp_path / "reqplane_uds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    delivered: list[Delivery] = []

    def accept(delivery: Delivery) -> None:
        if delivered:
            raise errors.WorkerDraining("the worker is leaving")
        delivered.append(delivery)

    endpoint = EndpointId("a", "b", "c")
    transport = await module.UdsTransport.open(SimpleNamespace(limits=Limits(max_frame_bytes=4096)))
    listener = await transport.listen(Served(endpoint, 1, 0, ""), accept)
    assert transport.target(Instance(endpoint, 0, 1, {"http": "elsewhere"})) is None
    target = transport.target(Instance(endpoint, 0, 1, listener.record(0)))
    frame = Frame(b"{}", b"body")
    await transport.send(target, frame, {}, NEVER)
    assert delivered[0].frame == frame.join()
    with pytest.raises(errors.WorkerDraining, match="is leaving"):
        await transport.send(target, frame, {}, NEVER)
    with pytest.raises(errors.FrameTooLarge):
        await transport.send(target, Frame(b"{}", bytes(4096)), {}, NEVER)
    with pytest.raises(errors.DeliveryUnknown):
        await transport.send(target, frame, {}, 0.0)
    await listener.close()
    await listener.close()
    with pytest.raises(errors.CannotConnect):
        await transport.send(target, frame, {}, NEVER)
    await transport.aclose()
    assert not list(tmp_path.glob("reqplane-uds-*"))
