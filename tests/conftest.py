"""What holds for all tests."""

from __future__ import annotations

import logging
import signal
import zlib
from collections.abc import Iterator

import hypothesis
import pytest
from servers import Etcd, Nats

# A busy machine is no failure; each test has a time limit of its own.
hypothesis.settings.register_profile("reqplane", deadline=None)
hypothesis.settings.load_profile("reqplane")

# A shell without job control starts background jobs with Ctrl-C ignored, which every process that the tests
# start would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = (
    "test_planes_from_wheels",
    "test_third_party_plane",
    "test_write_a_transport",
    "test_backends_from_wheels",
    "test_write_plugins",
    "test_migration",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, the files that take longest come first, so that at the end all
    of them have short ones left.

    The others come in an order that mixes those that start processes with those that do not: where all of
    them run at the same time, the machine is too busy for any of them.
    """

    if not hasattr(config, "workerinput"):
        return

    def rank(item: pytest.Item) -> tuple[int, int]:
        file = item.path.stem
        longest = LONGEST.index(file) if file in LONGEST else len(LONGEST)
        return longest, zlib.crc32(item.nodeid.partition("::")[0].encode())

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def _no_level_left_over() -> Iterator[None]:
    """`connect` with `DYN_LOG=error` is for the whole process, where later tests look for warnings."""
    log = logging.getLogger("reqplane")
    before = log.level
    yield
    if log.level != before:
        log.setLevel(logging.NOTSET)  # with which the next `connect` sets its own


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """One NATS server for all tests that do it no harm; they differ by their namespaces."""
    server = Nats(tmp_path_factory.mktemp("nats")).start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One etcd for all tests that do it no harm; they differ by their namespaces."""
    server = Etcd(tmp_path_factory.mktemp("etcd")).start()
    yield server
    server.close()


@pytest.fixture
def own_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """A NATS server that the test may kill."""
    server = Nats(tmp_path_factory.mktemp("nats")).start()
    yield server
    server.close()


@pytest.fixture
def own_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """An etcd that the test may kill."""
    server = Etcd(tmp_path_factory.mktemp("etcd")).start()
    yield server
    server.close()
