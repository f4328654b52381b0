"""Shells complete what the command line knows."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from reqplane.cli import main

COMMANDS = {"serve", "call", "instances", "plugins", "doctor", "frontend", "bench", "demo", "completion"}
WANTED = [
    ("reqplane ", COMMANDS | {"--help", "-h", "--version"}),
    ("reqplane ca", {"call"}),
    ("reqplane call --r", {"--router-mode"}),
    ("reqplane doctor --", {"--help", "--json"}),
    ("reqplane bench --", {"--help", "--seconds"}),
    ("reqplane completion ", {"bash", "zsh", "fish", "--help", "-h"}),
    ("reqplane demo ", {"server", "client", "--help", "-h"}),
    ("reqplane demo client --t", {"--tokens"}),
    ("reqplane frontend --http-", {"--http-host", "--http-port"}),
    ("reqplane serve demo c", set[str]()),
    ("reqplane call a.b.c '{}' --tim", {"--timeout"}),
]


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def shell_or_skip(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name} here")
    return found


@pytest.mark.parametrize(("typed", "wanted"), WANTED)
def test_bash(typed: str, wanted: set[str], capsys: pytest.CaptureFixture[str]):
    words = shlex.split(typed) + ([""] if typed.endswith(" ") else [])
    run = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _reqplane"
    run += '; printf "%s\\n" "${COMPREPLY[@]}"'
    command = [shell_or_skip("bash"), "--norc", "-uc", f"{script('bash', capsys)}\n{run}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert set(done.stdout.split()) == wanted


@pytest.mark.parametrize(("typed", "wanted"), WANTED)
def test_fish(typed: str, wanted: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "reqplane.fish").write_text(script("fish", capsys))
    ask = f"source reqplane.fish; complete -C {shlex.quote(typed)}"
    command = [shell_or_skip("fish"), "--no-config", "-c", ask]
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "TERM": "dumb"}
    done = subprocess.run(command, cwd=tmp_path, env=home, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    offered = {line.split("\t")[0] for line in done.stdout.splitlines()} - {"reqplane.fish"}
    # fish offers options only once a dash is typed
    assert offered == (wanted if "-" in typed.split(" ")[-1] else {w for w in wanted if w[0] != "-"})


def test_zsh_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """It is defined and found; what it offers needs a terminal."""
    (tmp_path / "_reqplane").write_text(script("zsh", capsys))
    ask = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump"
    ask += '; print "$_comps[reqplane]"; source ' + f"{tmp_path}/_reqplane; whence -w _reqplane"
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [shell_or_skip("zsh"), "-fc", ask]
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "_reqplane\n_reqplane: function\n")


def test_zsh_offers_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """With what zsh's completion would define, replaced."""
    (tmp_path / "_reqplane").write_text(script("zsh", capsys))
    ask = 'compdef() { : }; _describe() { print -l "${(@P)2}" }; _files() { : }\n'
    ask += f"source {tmp_path}/_reqplane; words=(reqplane demo ''); CURRENT=3; _reqplane"
    done = subprocess.run([shell_or_skip("zsh"), "-fc", ask], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert {line.split(":")[0] for line in done.stdout.splitlines()} == {"server", "client", "--help", "-h"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_stands_in_it(shell: str, capsys: pytest.CaptureFixture[str]):
    printed = script(shell, capsys)
    assert all(command in printed for command in COMMANDS)
    assert "--worker" not in printed  # that is for ourselves


def test_another_shell_is_a_usage_error(capsys: pytest.CaptureFixture[str]):
    assert main(["completion", "tcsh"]) == 2
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err
