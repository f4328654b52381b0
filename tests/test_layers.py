"""The import rule: who may import whom, read from the sources without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "core" / "src" / "reqplane"
PLUGINS = [ROOT / "plugins" / name / "src" for name in ("http", "nats", "tcp", "tcp_stream")]

# From the bottom up: a module imports from its own layer and from those below.
LAYERS = [
    {"escaping"},
    {"errors", "model", "timers", "faster", "containers", "fairness"},
    {"wire"},
    {"interfaces"},
    {"hookspecs"},
    {
        "settings",
        "spelling",
        "sockets",
        "codecs",
        "routing",
        "balancing",
        "discovery",
        "builtin",
        "context",
    },
    {"plugins", "guarded", "skeleton"},
    {"instances", "host", "workload", "metrics"},
    {
        "client",
        "push_router",
        "stream",
        "sending",
        "pump",
        "annotated",
        "endpoint",
        "request_stream",
        "handlers",
        "serving",
    },
    {"runtime"},
    {"__init__"},
    {"cli", "demo", "doctor", "bench", "dynamo", "front", "frontend", "__main__"},
]
LAYER = {name: height for height, names in enumerate(LAYERS) for name in names}

# What a plugin may see of the core: the public names, and these.
OPEN_TO_PLUGINS = {"__init__", "hookspecs", "interfaces", "model", "errors", "settings", "sockets", "wire"}


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, relative ones spelled out."""
    package = path.relative_to(next(part for part in path.parents if part.name == "src")).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def of_core(path: Path) -> set[str]:
    """The parts of the core that a file imports; `__init__` stands for the public names."""
    parts = [name.split(".") for name in imports(path)]
    return {
        part[1] if len(part) > 1 and is_module(part[1]) else "__init__"
        for part in parts
        if part[0] == "reqplane"
    }


def is_module(name: str) -> bool:
    return name in LAYER or (CORE / name).exists() or (CORE / f"{name}.py").exists()


def part_of(path: Path) -> str:
    """Which part of the core a file belongs to."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


SKELETON = CORE / "skeleton" / "project"
"""The start of somebody else's plugin: a file of the core's wheel, but a plugin."""
CORE_FILES = [path for path in sources(CORE) if SKELETON not in path.parents]
PLUGIN_FILES = [path for folder in (*PLUGINS, SKELETON / "src") for path in sources(folder)]


@pytest.mark.parametrize("path", CORE_FILES, ids=shown)
def test_every_part_of_the_core_has_its_layer(path: Path):
    assert part_of(path) in LAYER, f"{shown(path)} stands in no layer: put it into one, here"


@pytest.mark.parametrize("path", CORE_FILES, ids=shown)
def test_imports_go_downwards(path: Path):
    own = LAYER.get(part_of(path), 0)
    above = sorted(name for name in of_core(path) if LAYER.get(name, len(LAYERS)) > own)
    assert not above, f"{shown(path)} imports from above: {', '.join(above)}"


@pytest.mark.parametrize("path", PLUGIN_FILES, ids=shown)
def test_plugins_see_only_what_is_open_to_them(path: Path):
    assert of_core(path) <= OPEN_TO_PLUGINS


@pytest.mark.parametrize("path", sources(CORE / "wire"), ids=shown)
def test_the_wire_does_no_io(path: Path):
    top = {name.split(".")[0] for name in imports(path)}
    assert not top & {"asyncio", "socket", "threading", "selectors"}


@pytest.mark.parametrize("path", [*CORE_FILES, *PLUGIN_FILES], ids=shown)
def test_pluggy_is_known_to_two_files(path: Path):
    uses = any(name.split(".")[0] == "pluggy" for name in imports(path))
    assert not uses or shown(path) in {
        "core/src/reqplane/hookspecs.py",
        "core/src/reqplane/plugins/asking.py",
    }


@pytest.mark.parametrize("name", ["client", "stream", "sending", "endpoint", "handlers", "serving"])
def test_a_request_meets_no_plugin_machinery(name: str):
    path = CORE / f"{name}.py"
    if path.exists():
        assert not of_core(path) & {"plugins", "hookspecs", "builtin"}


def reads_environment(path: Path) -> bool:
    tree = ast.parse(path.read_text())
    touched = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv"}
    return bool(names & (touched | set(imports(path))))


@pytest.mark.parametrize("path", [*CORE_FILES, *PLUGIN_FILES], ids=shown)
def test_the_environment_is_read_in_one_place(path: Path):
    assert not reads_environment(path) or shown(path) == "core/src/reqplane/settings.py"


def test_the_rule_sees_what_it_should(tmp_path: Path):
    """The reader itself: absolute, relative, lazy and public imports are all found."""
    folder = tmp_path / "src" / "reqplane" / "discovery"
    folder.mkdir(parents=True)
    file = folder / "example.py"
    file.write_text(
        "import reqplane.wire.frame\nfrom reqplane import connect, plugins\n"
        "from ..errors import ReqplaneError\n"
        "from .scan import Scan\nfrom . import slots\ndef late():\n    from reqplane.runtime import x\n"
    )
    assert of_core(file) == {"wire", "__init__", "plugins", "errors", "discovery", "runtime"}
    file.write_text("import os\nos.environ['X']\n")
    assert reads_environment(file)
    file.write_text("from os import getenv\n")
    assert reads_environment(file)
