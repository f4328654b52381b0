"""An environment with Dynamo's wheel for each version, made by pip when it is first wanted.

`REQPLANE_DYNAMO_VENVS` says where they are: a folder with `{version}` in its name, such as
`~/dynamo-{version}`.  Left out, they are kept in the system's temp directory.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = ("0.7.1", "0.9.1", "1.6.1")
VARIABLE = "REQPLANE_DYNAMO_VENVS"
_OURS, _WHOLE = "made-by-reqplane-tests", "installed"
"""Files in an environment that is made here: it may be deleted; it is whole."""
_PATIENCE = 240.0
"""Seconds that pip may take for one version."""


class NotInstalled(Exception):
    """This version can't be had here; the text says why."""


def interpreter(version: str) -> Path:
    """The Python that has this version of Dynamo; NotInstalled if it can't be had."""
    folder = _folder(version)
    python = folder / "bin" / "python"
    if folder.exists() and not (folder / _OURS).exists():
        if _has(python, version):
            return python
        raise NotInstalled(f"{folder}, which {VARIABLE} names, has no ai-dynamo-runtime {version}")
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.parent.stat().st_uid != os.getuid():
        raise NotInstalled(f"{folder.parent} belongs to somebody else: name another folder by {VARIABLE}")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # others want it at the same time, perhaps
        if not (folder / _WHOLE).exists():
            _make(folder, version)
    return python


def _folder(version: str) -> Path:
    pattern = os.environ.get(VARIABLE) or f"{tempfile.gettempdir()}/reqplane-dynamo-{os.getuid()}/{{version}}"
    return Path(pattern.format(version=version)).expanduser()


def _has(python: Path, version: str) -> bool:
    ask = "import importlib.metadata as m; print(m.version('ai-dynamo-runtime'))"
    if not python.exists():
        return False
    found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    return found.stdout.strip() == version


def _make(folder: Path, version: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / _OURS).touch()
    _run([sys.executable, "-m", "venv", str(folder)], version)
    wheel = f"ai-dynamo-runtime=={version}"
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--only-binary", "ai-dynamo-runtime", "--retries", "1", "--timeout", "20", wheel], version)
    (folder / _WHOLE).touch()


def _run(command: list[str], version: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"pip did not install Dynamo {version} within {_PATIENCE:g} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it did not say why"])[-1]
        raise NotInstalled(f"Dynamo {version} can't be installed here: {last}")
