"""Who may talk to etcd: users and tokens, TLS and client certificates; real servers."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from core.discovery.test_etcd import GENERATE
from core.discovery.world import Opener, Watcher, record
from reqplane.errors import DiscoveryUnavailable, SettingsError
from servers import Etcd

Starter = Callable[..., Etcd]
SECRET = "geheim-4711"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Starter]:
    servers: list[Etcd] = []

    def starter(*arguments: str, scheme: str = "http") -> Etcd:
        server = Etcd(tmp_path / "etcd", arguments=arguments, scheme=scheme)
        servers.append(server)
        return server.start()

    yield starter
    for server in servers:
        server.close()


# ── users ───────────────────────────────────────────────────────────────────────────────────────────


def with_users(etcd: Etcd) -> dict[str, str]:
    """Let in a user who may touch the instances and nothing else; the variables for it."""
    etcd.ctl("user", "add", "root:rootpass")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("user", "add", f"worker:{SECRET}")
    etcd.ctl("role", "add", "instances")
    etcd.ctl("role", "grant-permission", "instances", "--prefix=true", "readwrite", "v1/instances/")
    etcd.ctl("user", "grant-role", "worker", "instances")
    etcd.ctl("auth", "enable")
    return {
        "ETCD_ENDPOINTS": etcd.url,
        "ETCD_AUTH_USERNAME": "worker",
        "ETCD_AUTH_PASSWORD": SECRET,
        "ETCD_LEASE_TTL": "4",
    }


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """For JWT."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    private, public = tmp_path / "jwt.key", tmp_path / "jwt.pub"
    openssl("genrsa", "-out", private, "2048")
    openssl("rsa", "-in", private, "-pubout", "-out", public)
    return private, public


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)


async def stay_and_be_seen(opened: Opener, watching: Watcher, env: dict[str, str], seconds: float) -> None:
    """Longer than tokens live, and then everything still works, the watch too."""
    worker, frontend = await opened("etcd", **env), await opened("etcd", **env)
    seen = await watching(frontend, GENERATE)
    registration = await worker.reserve(GENERATE, 11)
    await registration.publish(record(GENERATE, 0, 11))
    await seen.until(lambda seen: seen.incarnations == {11})
    await asyncio.sleep(seconds)
    assert not registration.lost.done()
    other = await worker.reserve(GENERATE, 22)
    await other.publish(record(GENERATE, 1, 22))
    await seen.until(lambda seen: seen.incarnations == {11, 22}, 5)
    await registration.withdraw()
    await seen.until(lambda seen: seen.incarnations == {22}, 5)
    assert all(change.up for change in seen.changes[:2])


async def test_simple_tokens_that_expire(started: Starter, opened: Opener, watching: Watcher) -> None:
    env = with_users(started("--auth-token", "simple", "--auth-token-ttl", "1"))
    await stay_and_be_seen(opened, watching, env, 2.2)


async def test_jwt_that_expire(
    started: Starter, opened: Opener, watching: Watcher, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    token = f"jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=1s"
    await stay_and_be_seen(opened, watching, with_users(started("--auth-token", token)), 2.2)


async def test_a_wrong_password_is_told_at_once(
    started: Starter, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    env = with_users(started())
    with pytest.raises(
        SettingsError, match=r"ETCD_AUTH_USERNAME='worker': etcd: .*authentication failed"
    ) as told:
        await opened("etcd", **{**env, "ETCD_AUTH_PASSWORD": "wrong-0815"})
    assert "wrong-0815" not in f"{told.value}{caplog.text}"


async def test_no_user_where_one_is_wanted(started: Starter, opened: Opener) -> None:
    url = with_users(started())["ETCD_ENDPOINTS"]
    with pytest.raises(SettingsError, match="ETCD_AUTH_USERNAME='': etcd: it wants a user"):
        await opened("etcd", ETCD_ENDPOINTS=url)


async def test_a_user_where_there_are_none(started: Starter, opened: Opener) -> None:
    env = {"ETCD_ENDPOINTS": started().url, "ETCD_AUTH_USERNAME": "me", "ETCD_AUTH_PASSWORD": SECRET}
    with pytest.raises(SettingsError, match="it has no users: unset this") as told:
        await opened("etcd", **env)
    assert SECRET not in str(told.value)


async def test_a_user_who_may_not_read_instances(started: Starter, opened: Opener) -> None:
    etcd = started()
    env = with_users(etcd)
    etcd.ctl("--user", "root:rootpass", "user", "revoke-role", "worker", "instances")
    with pytest.raises(SettingsError, match="permission denied: this user may not read"):
        await opened("etcd", **env)


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with a CA, a server's and a client's certificate, and another CA that signed neither."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    for ca in ("ca", "other"):
        make = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={ca}")
        openssl(*make, "-keyout", tmp_path / f"{ca}.key", "-out", tmp_path / f"{ca}.pem")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for one in ("server", "client"):
        key, request, signed = (tmp_path / f"{one}.{kind}" for kind in ("key", "csr", "pem"))
        openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={one}", "-keyout", key, "-out", request
        )
        sign = ("x509", "-req", "-days", "2", "-CA", tmp_path / "ca.pem", "-CAkey", tmp_path / "ca.key")
        names = ("-CAcreateserial", "-extfile", tmp_path / "names")
        openssl(*sign, *names, "-in", request, "-out", signed)
    return tmp_path


def server(certificates: Path, mutual: bool = False) -> list[str]:
    own = ["--cert-file", str(certificates / "server.pem"), "--key-file", str(certificates / "server.key")]
    return [*own, *(["--client-cert-auth", "--trusted-ca-file", str(certificates / "ca.pem")] * mutual)]


async def test_tls(started: Starter, opened: Opener, watching: Watcher, certificates: Path) -> None:
    etcd = started(*server(certificates), scheme="https")
    env = {"ETCD_ENDPOINTS": etcd.url, "ETCD_AUTH_CA": str(certificates / "ca.pem"), "ETCD_LEASE_TTL": "2"}
    await stay_and_be_seen(opened, watching, env, 1)
    with pytest.raises(SettingsError, match=r"ETCD_AUTH_CA=.*its certificate is not trusted"):
        await opened("etcd", **{**env, "ETCD_AUTH_CA": str(certificates / "other.pem")})
    with pytest.raises(SettingsError, match=r"ETCD_AUTH_CA='': etcd: its certificate is not trusted"):
        await opened("etcd", ETCD_ENDPOINTS=etcd.url)
    with pytest.raises(SettingsError, match="it speaks TLS there: write https://"):
        await opened("etcd", ETCD_ENDPOINTS=etcd.url.replace("https", "http"))


async def test_a_user_with_tls(
    started: Starter, opened: Opener, watching: Watcher, certificates: Path
) -> None:
    etcd = started(*server(certificates), "--auth-token", "simple", "--auth-token-ttl", "1", scheme="https")
    ca = str(certificates / "ca.pem")
    ctl = etcd.ctl
    etcd.ctl = lambda *arguments: ctl("--cacert", ca, *arguments)  # type: ignore[method-assign]
    await stay_and_be_seen(opened, watching, {**with_users(etcd), "ETCD_AUTH_CA": ca}, 2.2)


async def test_mutual_tls(started: Starter, opened: Opener, watching: Watcher, certificates: Path) -> None:
    etcd = started(*server(certificates, mutual=True), scheme="https")
    env = {"ETCD_ENDPOINTS": etcd.url, "ETCD_AUTH_CA": str(certificates / "ca.pem"), "ETCD_LEASE_TTL": "2"}
    ours = {
        "ETCD_AUTH_CLIENT_CERT": str(certificates / "client.pem"),
        "ETCD_AUTH_CLIENT_KEY": str(certificates / "client.key"),
    }
    await stay_and_be_seen(opened, watching, {**env, **ours}, 1)
    with pytest.raises(
        SettingsError, match="ETCD_AUTH_CLIENT_CERT='': etcd: it wants a client's certificate"
    ):
        await opened("etcd", **env)


async def test_tls_with_an_etcd_that_has_none(started: Starter, opened: Opener, certificates: Path) -> None:
    url = started().url.replace("http", "https")
    with pytest.raises(SettingsError, match="it does not speak TLS there: write http://"):
        await opened("etcd", ETCD_ENDPOINTS=url, ETCD_AUTH_CA=str(certificates / "ca.pem"))


# ── settings that do not go together ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ({"ETCD_ENDPOINTS": "ftp://a"}, "wanted http://HOST:PORT"),
        ({"ETCD_ENDPOINTS": "http://a:b"}, "the port is none"),
        ({"ETCD_ENDPOINTS": "http://a:1/x"}, "nothing behind the port"),
        ({"ETCD_ENDPOINTS": f"http://me:{SECRET}@a:1"}, "belong into ETCD_AUTH_USERNAME"),
        ({"ETCD_LEASE_TTL": "1"}, "ETCD_LEASE_TTL='1'"),
        ({"ETCD_AUTH_USERNAME": "me"}, "wants ETCD_AUTH_PASSWORD beside it"),
        ({"ETCD_AUTH_PASSWORD": SECRET}, "wants ETCD_AUTH_USERNAME beside it"),
        ({"ETCD_AUTH_CLIENT_CERT": __file__}, "wants ETCD_AUTH_CLIENT_KEY beside it"),
        ({"ETCD_AUTH_CLIENT_KEY": __file__}, "wants ETCD_AUTH_CLIENT_CERT beside it"),
        ({"ETCD_AUTH_CA": __file__}, "which only https:// has"),
        ({"ETCD_ENDPOINTS": "https://a", "ETCD_AUTH_CA": "/no/where"}, "can't be read: No such file"),
    ],
)
async def test_settings_that_are_wrong(opened: Opener, env: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingsError) as told:
        await opened("etcd", **{"ETCD_ENDPOINTS": "http://localhost:1", **env})
    assert complaint in str(told.value)
    assert SECRET not in str(told.value)


async def test_addresses_of_every_kind() -> None:
    from reqplane.discovery.etcd.settings import addresses

    found = addresses("http://[::1]:23, https://b ,c:5,http://[::1]:23")
    assert [str(one) for one in found] == ["http://[::1]:23", "https://b:2379", "http://c:5"]


# ── the module ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_fork_of_etcd3_is_told_of(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = {"etcd3": ["etcd3", "python-etcd3"]}
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: owners)
    with pytest.raises(DiscoveryUnavailable, match="pip uninstall python-etcd3"):
        await opened("etcd", ETCD_ENDPOINTS="http://localhost:1")
