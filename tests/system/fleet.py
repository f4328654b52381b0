"""Real worker processes on loopback, and a frontend in the test's own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import reqplane

HERE = Path(__file__).parent
PATH = "test.worker.generate"


class Fleet:
    """Workers started by `start`; all are gone when it closes, also after a failure."""

    def __init__(self, folder: Path) -> None:
        self.env = {
            "DYN_REQUEST_PLANE": "http",
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": str(folder),
            "DYN_HTTP_RPC_HOST": "127.0.0.1",
            "DYN_HTTP_RPC_PORT": "0",
            "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
            "DYN_TCP_RESPONSE_STREAM_PORT": "0",
        }
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, handler: str, path: str = PATH, **env: str) -> subprocess.Popen[str]:
        """A worker that serves `handlers:HANDLER`."""
        return self.run("-m", "reqplane", "serve", f"handlers:{handler}", path, **env)

    def run(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Any Python process with the fleet's variables."""
        return self.started([sys.executable, *arguments], **env)

    def started(self, command: Sequence[str], **env: str) -> subprocess.Popen[str]:
        """Any process."""
        process = subprocess.Popen(
            command,
            env={**os.environ, **self.env, **env},
            cwd=HERE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    @asynccontextmanager
    async def client(self, workers: int = 1, path: str = PATH) -> AsyncGenerator[reqplane.Client]:
        """A client that knows at least so many workers."""
        from memory_planes import eventually

        async with reqplane.connect(self.env, signals=False) as runtime:
            client = await runtime.endpoint(path).client()
            await eventually(lambda: len(client.instances()) >= workers, within=20)
            yield client

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()
