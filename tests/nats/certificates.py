"""An authority of our own, a server's certificate and a client's, as PEM files."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """Paths."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path


def make(folder: Path, name: str = "IP:127.0.0.1") -> Certificates:
    """By the openssl program; the server's is for `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, ca_key = folder / "ca.pem", folder / "ca-key.pem"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl("req", "-x509", *new_key, "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", "/CN=test ca")
    for who, extension in (("server", f"subjectAltName={name}"), ("client", "extendedKeyUsage=clientAuth")):
        key, request, cert = (folder / f"{who}-key.pem", folder / f"{who}.csr", folder / f"{who}.pem")
        _openssl("req", "-new", *new_key, "-keyout", key, "-out", request, "-subj", f"/CN={who}")
        (folder / "extensions").write_text(extension)
        signing = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2")
        _openssl("x509", "-req", "-in", request, "-out", cert, *signing, "-extfile", folder / "extensions")
    return Certificates(
        ca,
        folder / "server.pem",
        folder / "server-key.pem",
        folder / "client.pem",
        folder / "client-key.pem",
    )


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
