"""The discovery folder of the file backend: whether it can be used, and the records in it."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path

from reqplane.doctor.report import Advice, Finding, export, note, ok, wrong
from reqplane.model import Instance
from reqplane.settings import FileSettings, Settings, collect, load
from reqplane.wire.records import dynamo_file, instance_name

_PARTS = ("", "v1", "v1/instances", "v1/locks", "v1/drafts")


def check_folder(env: Mapping[str, str]) -> Finding:
    """Whether workers could register there."""
    folder = Path(load(FileSettings, env).path())
    closed = [part for part in _PARTS if (folder / part).exists() and not _usable(folder / part)]
    if closed:
        return cannot_use(env, f"{folder / closed[0]} can't be written by this user")
    (settings, files), _ = collect([Settings, FileSettings], env)
    if settings.dynamo and not files.folder:
        both = (export("DYN_FILE_KV", _another(folder)),)
        return note(
            f"the discovery folder {folder} is Reqplane's default; Dynamo's is another one",
            Advice("set the same on all sides, Dynamo's too:", both),
        )
    if not folder.is_absolute():
        return note(
            f"DYN_FILE_KV={folder} is counted from each process's current folder, here it is "
            f"{folder.absolute()}; a path from / is the same for all"
        )
    return ok(f"the discovery folder {folder} can be written")


def cannot_use(env: Mapping[str, str], why: str) -> Finding:
    """The finding about a folder that can't be used."""
    folder = Path(load(FileSettings, env).path())
    if folder.is_dir() and folder.stat().st_uid == os.getuid():
        open_it = f"chmod -R u+rwX {shlex.quote(str(folder))}"
        return wrong(why, Advice("it is this user's own:", (open_it,)))
    other = _another(folder)
    commands = (f"mkdir -p -m 700 {shlex.quote(other)}", export("DYN_FILE_KV", other))
    return wrong(why, Advice("use another folder, the same on all sides:", commands))


def _usable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.R_OK | os.W_OK | os.X_OK)


def _another(folder: Path) -> str:
    """A folder of this user's own."""
    usual = Path(tempfile.gettempdir()) / f"reqplane-{os.getuid()}"
    return str(Path.home() / ".reqplane" / "discovery" if folder == usual else usual)


def forget(instance: Instance, discovery: str, env: Mapping[str, str]) -> Advice:
    """Take the record of a worker that is gone out of discovery."""
    if discovery == "file" and (file := _record(instance, env)) is not None:
        words = "if the worker is gone, take its record away (one that lives registers again by itself):"
        return Advice(words, (f"rm {shlex.quote(str(file))}",))
    return Advice("if the worker is gone, its record goes too, as soon as its lease is over")


def _record(instance: Instance, env: Mapping[str, str]) -> Path | None:
    worker = instance.endpoint, instance.instance_id
    folder = Path(load(FileSettings, env).path()) / "v1" / "instances"
    for name in (instance_name(*worker), dynamo_file(*worker)):
        if (folder / name).exists():
            return folder / name
    return None
