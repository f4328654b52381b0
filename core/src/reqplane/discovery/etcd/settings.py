"""The etcd backend's settings, and what of them does not go together."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from reqplane.errors import SettingsError, describe
from reqplane.settings import Problem, between, setting, settings_class, text

_PORT = 2379
_WANTED = "wanted http://HOST:PORT or https://HOST:PORT, several by commas"


@dataclass(frozen=True, slots=True)
class Address:
    """One member of etcd."""

    scheme: str
    host: str
    port: int

    @property
    def is_secure(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def addresses(raw: str) -> tuple[Address, ...]:
    """A comma list of URLs; without a scheme they are http, without a port 2379."""
    found = tuple(_address(part.strip()) for part in raw.split(",") if part.strip())
    if not found:
        raise ValueError(_WANTED)
    return tuple(dict.fromkeys(found))


def _address(url: str) -> Address:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or _PORT
    except ValueError:
        raise ValueError(f"{_WANTED}; the port is none") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("a user and a password belong into ETCD_AUTH_USERNAME and ETCD_AUTH_PASSWORD")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(_WANTED)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{_WANTED}, and nothing behind the port")
    return Address(parts.scheme, parts.hostname, port)


@settings_class
class EtcdSettings:
    """What the etcd backend reads.  The names are Dynamo's."""

    endpoints: tuple[Address, ...] = setting(
        "ETCD_ENDPOINTS", default=(Address("http", "localhost", _PORT),), parse=addresses
    )
    ttl: int = setting("ETCD_LEASE_TTL", default=10, parse=between(2, 86_400))
    username: str = setting("ETCD_AUTH_USERNAME", default="", parse=text)
    password: str = setting("ETCD_AUTH_PASSWORD", default="", parse=text, secret=True)
    ca: str = setting("ETCD_AUTH_CA", default="", parse=text)
    client_cert: str = setting("ETCD_AUTH_CLIENT_CERT", default="", parse=text)
    client_key: str = setting("ETCD_AUTH_CLIENT_KEY", default="", parse=text)

    @property
    def where(self) -> str:
        return f"etcd at {', '.join(map(str, self.endpoints))}"

    @property
    def is_secure(self) -> bool:
        return any(address.is_secure for address in self.endpoints)

    def shown(self, variable: str) -> str:
        """A variable's value, as far as it may be shown."""
        return {
            "ETCD_ENDPOINTS": ",".join(map(str, self.endpoints)),
            "ETCD_AUTH_USERNAME": self.username,
            "ETCD_AUTH_CA": self.ca,
            "ETCD_AUTH_CLIENT_CERT": self.client_cert,
        }[variable]

    def check(self) -> None:
        """SettingsError with everything that does not go together.  Looks at the files too."""
        if problems := [*self._of_users(), *self._of_certificates(), *self._of_files()]:
            raise SettingsError(problems)

    def _of_users(self) -> Iterator[Problem]:
        if self.username and not self.password:
            yield "ETCD_AUTH_USERNAME", self.username, "wants ETCD_AUTH_PASSWORD beside it"
        if self.password and not self.username:
            yield "ETCD_AUTH_PASSWORD", "***", "wants ETCD_AUTH_USERNAME beside it"

    def _of_certificates(self) -> Iterator[Problem]:
        if self.client_cert and not self.client_key:
            yield "ETCD_AUTH_CLIENT_CERT", self.client_cert, "wants ETCD_AUTH_CLIENT_KEY beside it"
        if self.client_key and not self.client_cert:
            yield "ETCD_AUTH_CLIENT_KEY", self.client_key, "wants ETCD_AUTH_CLIENT_CERT beside it"
        plain = ", ".join(str(address) for address in self.endpoints if not address.is_secure)
        if plain and (self.ca or self.client_cert or self.client_key):
            why = "there are certificates for TLS (ETCD_AUTH_CA, …), which only https:// has"
            yield "ETCD_ENDPOINTS", plain, why

    def _of_files(self) -> Iterator[Problem]:
        for variable, path in (
            ("ETCD_AUTH_CA", self.ca),
            ("ETCD_AUTH_CLIENT_CERT", self.client_cert),
            ("ETCD_AUTH_CLIENT_KEY", self.client_key),
        ):
            try:
                if path:
                    with open(path, "rb") as file:
                        file.read(1)
            except OSError as error:
                yield variable, path, f"the file can't be read: {describe(error)}"
        if self.is_secure and not self.ca and not system_roots():
            yield "ETCD_AUTH_CA", "", "this system has no file of root certificates, so name one"

    def tls(self) -> ssl.SSLContext:
        """The same as the client's, for a look at why it does not get through."""
        context = ssl.create_default_context(cafile=self.ca or system_roots())
        if self.client_cert:
            context.load_cert_chain(self.client_cert, self.client_key)
        context.set_alpn_protocols(["h2"])
        return context


def system_roots() -> str:
    """The file that has the system's root certificates; "" if there is none."""
    paths = ssl.get_default_verify_paths()
    usual = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
    found = (path for path in (paths.cafile, paths.openssl_cafile, *usual) if path and os.path.isfile(path))
    return next(found, "")
