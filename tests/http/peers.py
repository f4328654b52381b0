"""Servers that others wrote, as processes of their own: nginx and nghttpd."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ports import free_ports

_NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 2000; }}
http {{
    access_log off;
    keepalive_requests {keepalive_requests};
    client_max_body_size 1m;
    client_body_buffer_size 1m;
    client_body_temp_path {folder}/client;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream worker {{ server 127.0.0.1:{worker}; keepalive 64; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{http1};
        listen 127.0.0.1:{h2c} http2;
        location /redirect {{ return 301 http://127.0.0.1:{http1}/v1/; }}
        location / {{
            proxy_pass http://worker;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


class Nginx:
    """An nginx in front of a worker."""

    def __init__(self, http1: int, h2c: int) -> None:
        self.http1 = f"http://127.0.0.1:{http1}"
        self.h2c = f"h2c://127.0.0.1:{h2c}"


@asynccontextmanager
async def nginx(folder: Path, worker: int, keepalive_requests: int) -> AsyncGenerator[Nginx]:
    """nginx that sends the requests of two ports, HTTP/1.1 and h2c, to the worker's.

    It ends each connection after `keepalive_requests`: by `connection: close`, or by GOAWAY.
    """
    program = _wanted("nginx", "nginx-light")
    http1, h2c = free_ports(2)
    config = folder / "nginx.conf"
    config.write_text(
        _NGINX.format(
            folder=folder, keepalive_requests=keepalive_requests, worker=worker, http1=http1, h2c=h2c
        )
    )
    arguments = (program, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log"))
    async with _running(arguments, http1):
        yield Nginx(http1, h2c)


@asynccontextmanager
async def nghttpd(folder: Path, *options: str) -> AsyncGenerator[str]:
    """nghttpd, which answers a POST to `/x` as the file x in the folder; its h2c:// URL."""
    program = _wanted("nghttpd", "nghttp2-server")
    (port,) = free_ports(1)
    where = ("--no-tls", "--address=127.0.0.1", f"--htdocs={folder}", *options, str(port))
    async with _running((program, *where), port):
        yield f"h2c://127.0.0.1:{port}"


def _wanted(program: str, package: str) -> str:
    found = shutil.which(program, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/opt/homebrew/bin")
    if found is None:
        pytest.skip(f"{program} is not here: apt install {package}")
    return found


@asynccontextmanager
async def _running(arguments: Sequence[str], port: int) -> AsyncGenerator[None]:
    """The process, from when it listens; it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(10):
            while not await _listens(port):
                if process.returncode is not None:
                    said = (await process.stderr.read()).decode(errors="replace")
                    pytest.fail(f"{arguments[0]} ended with {process.returncode}: {said}")
                await asyncio.sleep(0.02)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
