"""The pages of the documentation: their blocks, and how what they show is installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and the heading it stands under."""

    language: str
    text: str
    heading: str


class Page:
    """A page of the documentation, taken apart."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.blocks = list(_blocks(text))

    def file(self, name: str) -> str:
        """The block that says in its first line that it is this file."""
        (found,) = [block.text for block in self.blocks if block.text.startswith(f"# {name}\n")]
        return found

    def under(self, heading: str, language: str) -> list[str]:
        """The blocks of one language under a heading, in order."""
        return [b.text for b in self.blocks if (b.heading, b.language) == (heading, language)]

    def section(self, heading: str) -> str:
        """All that stands under a heading of the second level."""
        return self.text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]

    def write(self, folder: Path, *names: str) -> None:
        """Put the files where their names say."""
        for name in names:
            (folder / name).write_text(self.file(name))

    def start_lines(self) -> dict[str, str]:
        """The shell lines that start the worker and the frontend, by the name of the file."""
        blocks = self.under("A worker and a frontend", "sh")
        return {block.split()[-1]: block for block in blocks}


def _blocks(text: str) -> Iterator[Block]:
    heading, language, lines = "", None, []
    for line in text.splitlines():
        if line.startswith("```"):
            if language is None:
                language, lines = line.removeprefix("```"), []
            else:
                yield Block(language, "\n".join(lines) + "\n", heading)
                language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")


def install(source: Path, site: Path) -> None:
    """`pip install .` into a folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--target", str(site), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
