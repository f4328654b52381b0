"""What `make` says about the Pythons that it finds; nothing is installed, all of them are fakes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MAKE = shutil.which("make")
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(MAKE is None, reason="there is no make"),
]

# A Python that takes itself for another version, with or without venv; its environments are empty shells.
PYTHON = """#!/bin/sh
if [ "$1" = -m ]; then
    mkdir -p "$3/bin" && printf '#!/bin/sh\\n' > "$3/bin/python" && chmod +x "$3/bin/python"
else
    exec {real} -SEc 'import sys
sys.version_info = ({version}, 0, "final", 0)
sys.modules.update(dict.fromkeys({missing}))
exec(sys.argv[1])' "$2"
fi
"""
SHIM = "#!/bin/sh\necho 'pyenv: no such version' >&2\nexit 127\n"


class Machine:
    """A folder with the Makefile, and a PATH with nothing but fakes and the few tools that it uses."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder / "clone", folder / "bin"
        self.path.mkdir()
        self.folder.mkdir()
        shutil.copy(ROOT / "Makefile", self.folder)
        for name in ("constraints.txt", "requirements-dev.txt"):
            (self.folder / name).touch()
        for tool in ("chmod", "mkdir", "rm", "touch"):
            found = shutil.which(tool)
            assert found is not None
            (self.path / tool).symlink_to(found)
        self.runs("Linux")

    def runs(self, system: str) -> None:
        self._add("uname", f"#!/bin/sh\necho {system}\n")

    def python(self, name: str, version: str, *, venv: bool = True) -> None:
        missing = "[]" if venv else '["ensurepip"]'
        number = version.replace(".", ", ")
        self._add(name, PYTHON.format(real=sys.executable, version=number, missing=missing))

    def shim(self, name: str) -> None:
        self._add(name, SHIM)

    def _add(self, name: str, script: str) -> None:
        (self.path / name).write_text(script)
        (self.path / name).chmod(0o755)

    def make(self, *arguments: str) -> tuple[int, list[str]]:
        assert MAKE is not None
        done = subprocess.run(
            [MAKE, "--no-print-directory", "venv", *arguments],
            cwd=self.folder,
            env={"PATH": str(self.path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        return done.returncode, done.stdout.splitlines()

    def complains(self, *arguments: str) -> list[str]:
        """What it says before it gives up, without a half-made environment."""
        status, lines = self.make(*arguments)
        assert status != 0
        assert not (self.folder / ".venv").exists()
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_newest_that_has_all_is_taken(machine: Machine):
    machine.shim("python3.14")
    machine.python("python3.13", "3.13", venv=False)
    machine.python("python3.12", "3.12")
    machine.python("python3", "3.11")
    assert machine.make() == (0, ["Making .venv with python3.12; this takes a minute, once."])
    assert (machine.folder / ".venv" / ".made").exists()
    status, lines = machine.make()  # made already
    assert (status, [line for line in lines if "Making" in line]) == (0, [])


def test_the_one_that_is_asked_for_is_taken(machine: Machine):
    machine.python("python3.12", "3.12")
    machine.python("my-python", "3.11")
    assert machine.make("PYTHON=my-python")[1] == ["Making .venv with my-python; this takes a minute, once."]


def test_one_that_is_asked_for_and_too_old(machine: Machine):
    machine.python("python3.9", "3.9")
    machine.python("python3.12", "3.12")
    assert machine.complains("PYTHON=python3.9") == [
        "python3.9 is Python 3.9; wanted is Python 3.11 or newer.  Type, with the name of one:",
        "    make venv PYTHON=python3.12",
    ]


@pytest.mark.parametrize("shim", [True, False])
def test_one_that_is_asked_for_and_not_there(machine: Machine, shim: bool):
    if shim:
        machine.shim("python3.13")
    assert machine.complains("PYTHON=python3.13") == [
        "There is no python3.13 that runs; wanted is Python 3.11 or newer.  Type, with the name of one:",
        "    make venv PYTHON=python3.12",
    ]


@pytest.mark.parametrize("arguments", [[], ["PYTHON=python3.12"]])
def test_one_without_venv(machine: Machine, arguments: list[str]):
    machine.python("python3.12", "3.12", venv=False)
    assert machine.complains(*arguments) == [
        "python3.12 has no venv.  Type:",
        "    apt install python3.12-venv",
    ]


def test_the_systems_one_without_venv(machine: Machine):
    machine.python("python3", "3.13", venv=False)
    assert machine.complains()[1] == "    apt install python3.13-venv"


def test_only_an_old_one(machine: Machine):
    machine.python("python3", "3.10")
    assert machine.complains() == [
        "python3 is Python 3.10; wanted is 3.11 or newer.  Type:",
        "    apt install python3.11-venv",
    ]


def test_none_at_all(machine: Machine):
    assert machine.complains() == [
        "There is no Python 3.11 or newer.  Type:",
        "    apt install python3-venv",
    ]


def test_none_at_all_on_macos(machine: Machine):
    machine.runs("Darwin")
    assert machine.complains()[1] == "    brew install python"
