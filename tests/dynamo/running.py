"""Runs a program of programs/ in its processes, each on Dynamo or on Reqplane, and gives what each printed.

A program's docstring names its processes: they are its arguments, started in this order.  All but the last
are workers, which end by themselves or by SIGTERM when the last has ended.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.py"))
PATIENCE = 40.0
"""Seconds that a program may take on a loaded machine."""
_LINGER = 1.0
"""Seconds that a worker which is about to end by itself is given."""
_IMPORTS = {
    r"from dynamo\.runtime import ": "from reqplane.dynamo import ",
    r"from dynamo\.llm\.exceptions import ": "from reqplane.dynamo.exceptions import ",
    r"from dynamo\.llm import ": "from reqplane.dynamo import ",
}


def source(name: str) -> str:
    return (PROGRAMS / f"{name}.py").read_text()


def processes(name: str) -> list[str]:
    """The arguments of each process, as the program's docstring has them."""
    (line,) = re.findall(r"^Processes: (.+)$", source(name), re.MULTILINE)
    return line.split(", ")


def version(name: str) -> str:
    """The version of Dynamo that the program is written for."""
    found = re.findall(r"^Version: (.+)$", source(name), re.MULTILINE)
    return found[0] if found else "1.6.1"


def expected(name: str) -> Path:
    """Where what it printed on Dynamo is kept."""
    return PROGRAMS / f"{name}.expected"


def ported(name: str) -> str:
    """The program with its import lines changed, and nothing else."""
    text = source(name)
    for dynamo, ours in _IMPORTS.items():
        text = re.sub(f"^{dynamo}", ours, text, flags=re.MULTILINE)
    assert not re.search(r"^\s*(from|import) dynamo\b", text, re.MULTILINE), f"{name} imports more of Dynamo"
    return text


@dataclass(frozen=True)
class Side:
    """Whose library a process runs on: Dynamo's, which this interpreter has, or ours."""

    dynamo: Path | None = None

    def command(self, name: str, folder: Path) -> list[str | Path]:
        if self.dynamo is not None:
            return [self.dynamo, PROGRAMS / f"{name}.py"]
        program = folder / f"{name}.py"
        if not program.exists():  # else a process that has been started may read it just then, and be empty
            program.write_text(ported(name))
        return [sys.executable, program]

    def environment(self, folder: Path) -> dict[str, str]:
        env = {
            **_bare(),
            "DYN_REQUEST_PLANE": "tcp",
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": str(folder / "discovery"),
            "DYN_TCP_RPC_HOST": "127.0.0.1",
            "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
        }
        return env | ({"DYN_TCP_RESPONSE_STREAM_PORT": "0"} if self.dynamo is None else {"DYN_LOG": "error"})


OURS = Side()


def _bare() -> dict[str, str]:
    """This process's variables without those that either side reads."""
    return {
        name: value
        for name, value in os.environ.items()
        if not re.match("DYN_|NATS_|ETCD_|PYTHON|OTEL_|RUST_", name)
    }


def run(name: str, folder: Path, *, workers: Side, client: Side, env: Mapping[str, str] | None = None) -> str:
    """What its processes print, one after the other under headings; `env` is for all of them."""
    roles = processes(name)
    started: list[tuple[str, Side, subprocess.Popen[str]]] = []
    printed: dict[str, str] = {}
    with ExitStack() as stack:
        for role in roles:
            side = client if role == roles[-1] else workers
            errors = stack.enter_context((folder / f"{name} {role}.log").open("w"))
            process = subprocess.Popen(
                [*side.command(name, folder), *role.split()],
                env=side.environment(folder) | dict(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
            stack.callback(_end, process)
            started.append((role, side, process))
        try:
            for role, side, process in reversed(started):
                printed[role] = _output(process, side, role == roles[-1])
        except subprocess.TimeoutExpired as error:
            states = [_last_words(folder, name, role, process) for role, _, process in started]
            raise AssertionError(f"{error}\n" + "\n".join(states)) from None
    return "".join(f"== {role}\n{printed[role]}" for role in roles)


def _last_words(folder: Path, name: str, role: str, process: subprocess.Popen[str]) -> str:
    """How a process stands: its status, or where its threads are, and what it has printed."""
    state = "had not ended" if process.poll() is None else f"ended with {process.returncode}"
    process.send_signal(signal.SIGABRT)  # faulthandler's cue
    text = process.communicate(timeout=PATIENCE)[0]
    return f"── {role} {state}\n{text}{(folder / f'{name} {role}.log').read_text()[-3000:]}"


def _output(process: subprocess.Popen[str], side: Side, client: bool) -> str:
    """All that it prints; a worker that does not end by itself is asked to.

    Dynamo's processes crash now and then when their work is done, those of 0.7.1 often: that is not noted.
    """
    if client:
        text = process.communicate(timeout=PATIENCE)[0]
        failed = process.returncode > 0 if side.dynamo else process.returncode != 0
        return f"{text}(exit status {process.returncode})\n" if failed else text
    try:
        return process.communicate(timeout=_LINGER)[0]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        return process.communicate(timeout=PATIENCE)[0]


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=PATIENCE)
