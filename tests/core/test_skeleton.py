"""`reqplane plugins new`: what it writes, and what it does not."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from reqplane.cli import main
from reqplane.skeleton import CannotWrite, package_of, write_project

ROOT = Path(__file__).parent.parent.parent
NAMES = ["sock", "my_plane", "my-plane", "a1"]


def files(project: Path) -> dict[str, str]:
    return {str(path.relative_to(project)): path.read_text() for path in project.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_whole_project_under_its_own_name(tmp_path: Path, name: str):
    project = write_project(name, tmp_path)
    package = package_of(name)
    written = files(project)
    assert set(written) == {
        "pyproject.toml",
        "README.md",
        "tests/test_conformance.py",
        *(
            f"src/{package}/{file}"
            for file in ("__init__.py", "py.typed", "transport.py", "wire.py", "worker.py")
        ),
    }
    assert not [file for file, text in written.items() if "yours" in text.lower()]
    for file, text in written.items():
        if file.endswith(".py"):
            ast.parse(text)
    about = tomllib.loads(written["pyproject.toml"])["project"]
    assert about["name"] == project.name == f"reqplane-{name.replace('_', '-')}"
    assert about["entry-points"]["reqplane.transports"] == {name: package}
    variable = f"DYN_{package.removeprefix('reqplane_').upper()}_PORT"
    assert written[f"src/{package}/worker.py"].count(variable) == 2
    variables = set(re.findall(r"DYN_\w+_(?:HOST|PORT)\b", written[f"src/{package}/worker.py"]))
    assert set(re.findall(r"^\| `(DYN_\w+)` \|", written["README.md"], re.MULTILINE)) == variables
    assert f'name: ClassVar[str] = "{name}"' in written[f"src/{package}/transport.py"]


def test_it_needs_the_version_that_wrote_it(tmp_path: Path):
    written = (write_project("sock", tmp_path) / "pyproject.toml").read_text()
    needed = tomllib.loads(written)["project"]
    lines = needed["dependencies"] + needed["optional-dependencies"]["test"]
    version = tomllib.loads((ROOT / "core/pyproject.toml").read_text())["project"]["version"]
    assert {line.partition("==")[2] for line in lines} == {f"{version.rpartition('.')[0]}.*"}


def test_two_functions_are_missing_and_say_so(tmp_path: Path):
    wire = (write_project("sock", tmp_path) / "src/reqplane_sock/wire.py").read_text()
    functions = [node for node in ast.parse(wire).body if isinstance(node, ast.AsyncFunctionDef)]
    assert [function.name for function in functions] == ["ask", "serve"]
    for number, function in enumerate(functions, 1):
        body = ast.unparse(function.body[-1])
        assert body.startswith("raise NotImplementedError(")
        assert f"{function.name}() in wire.py: " in body
        assert f"FILL IN, {number} of 2" in wire


def test_what_is_written_is_in_order(tmp_path: Path):
    project = write_project("sock", tmp_path)
    command = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "name", ["", "Sock", "1a", "a b", "../a", "a/b", "-a", "a-", "a__b", "a.b", "x" * 41, "ä", "{name}"]
)
def test_what_is_no_name(tmp_path: Path, name: str):
    with pytest.raises(CannotWrite, match="can't be a plane's name"):
        write_project(name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["system", "tcp-rpc", "tcp_response-stream"])
def test_a_name_whose_variables_mean_something_already(tmp_path: Path, name: str):
    with pytest.raises(CannotWrite, match=r"its DYN_\S+_HOST.* would be somebody else's variable"):
        write_project(name, tmp_path)


@pytest.mark.parametrize("name", ["http", "tcp_stream", "tcp-stream", "conformance", "command"])
def test_a_name_that_is_taken(tmp_path: Path, name: str):
    with pytest.raises(CannotWrite, match=f"there is a package {package_of(name)} already"):
        write_project(name, tmp_path)


# ── the command ─────────────────────────────────────────────────────────────────────────────────────


def test_the_command_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["plugins", "new", "sock", "--dir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"{tmp_path}/reqplane-sock is a request plane over TCP" in printed
    assert "src/reqplane_sock/wire.py" in printed
    assert (tmp_path / "reqplane-sock/src/reqplane_sock/wire.py").exists()


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "reqplane-sock").mkdir()
    assert main(["plugins", "new", "sock", "--dir", str(tmp_path)]) == 2
    assert "is there already, and nothing is overwritten" in capsys.readouterr().err
    assert not list((tmp_path / "reqplane-sock").iterdir())


def test_a_folder_that_can_not_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").touch()
    assert main(["plugins", "new", "sock", "--dir", str(tmp_path / "file")]) == 2
    assert "reqplane-sock can't be written: Not a directory" in capsys.readouterr().err


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]):
    assert main(["plugins", "new", "--help"]) == 0
    assert "example:\n  reqplane plugins new sock" in capsys.readouterr().out


def test_the_list_is_as_it_was(capsys: pytest.CaptureFixture[str]):
    assert main(["plugins"]) == 0
    assert capsys.readouterr().out.startswith("NAME ")
