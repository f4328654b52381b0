"""nkeys and JWTs, made by hand as `nsc` makes them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys  # pyright: ignore[reportMissingTypeStubs]

USER: int = nkeys.PREFIX_BYTE_USER


class Key:
    """A key pair of an operator, an account or a user."""

    def __init__(self, prefix: int) -> None:
        self.seed = nkeys.encode_seed(os.urandom(32), prefix)
        self._pair: Any = nkeys.from_seed(bytearray(self.seed))
        self.public = self._pair.public_key.decode()

    def sign(self, claims: dict[str, Any]) -> str:
        """A JWT."""
        head = _base64({"typ": "JWT", "alg": "ed25519-nkey"})
        body = f"{head}.{_base64(claims)}"
        return f"{body}.{_unpadded(self._pair.sign(body.encode()))}"


def _base64(value: dict[str, Any]) -> str:
    return _unpadded(json.dumps(value).encode())


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def claims(issuer: Key, subject: Key, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "jti": hashlib.sha256(os.urandom(8)).hexdigest(),
        "iat": int(time.time()),
        "iss": issuer.public,
        "sub": subject.public,
        "name": kind,
        **more,
        "nats": {"type": kind, "version": 2, **LIMITS.get(kind, {})},
    }


_NONE = {"subs": -1, "data": -1, "payload": -1}
LIMITS: dict[str, dict[str, Any]] = {
    "account": {
        "limits": {**_NONE, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1},
        "default_permissions": {"pub": {}, "sub": {}},
    },
    "user": {"pub": {}, "sub": {}, **_NONE},
}


class Operator:
    """An operator, one account, and users of it."""

    def __init__(self) -> None:
        self._key, self._account = Key(nkeys.PREFIX_BYTE_OPERATOR), Key(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def config(self) -> str:
        """For the server's configuration file."""
        operator = self._key.sign(claims(self._key, self._key, "operator"))
        account = self._key.sign(claims(self._key, self._account, "account"))
        return (
            f"operator: {operator}\nresolver: MEMORY\n"
            f"resolver_preload: {{ {self._account.public}: {account} }}"
        )

    def user(self, path: Path, seconds: float | None = None) -> Path:
        """Write a user's credentials file, for so many seconds."""
        key = Key(USER)
        ends = {} if seconds is None else {"exp": int(time.time() + seconds)}
        jwt = self._account.sign(claims(self._account, key, "user", **ends))
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{key.seed.decode()}\n------END USER NKEY SEED------\n"
        )
        return path
