"""The suite finds what is wrong with a discovery backend, and tells it first."""

from __future__ import annotations

from typing import Any

import pytest
from reqplane.discovery.file import FileDiscovery
from reqplane.discovery.memory import MemoryDiscovery
from reqplane.interfaces import Discovery
from reqplane_conformance import DiscoveryConformance
from reqplane_conformance.strain import Strain
from servers import Etcd

from . import wrong_backends as wrong
from .stores import EtcdStore, FileStore
from .trying import check_wrong, tried

# What fails whenever somebody who watches is told nothing, or leaves something behind.
WATCHING = {
    *("life.aclose_ends_watches", "life.aclose_while_busy", "life.aclose_withdraws", "life.after_aclose"),
    *(
        "life.nothing_left_over",
        "life.opened_often",
        "records.endpoints_apart",
        "records.gone_when_withdrawn",
    ),
    *("records.large", "records.number_used_again", "records.publish_after_withdraw", "records.replaced"),
    *("records.unchanged", "records.unreadable_is_refused", "records.unseen_before_publish"),
    *("records.withdraw_twice", "watch.all_see_the_same", "watch.cancelled"),
    *("watch.first_batch_even_if_empty", "watch.goes_on", "watch.in_order", "watch.lists_what_is_there"),
    *("watch.many", "watch.misses_nothing", "watch.one_endpoint_or_all", "watch.slow_reader"),
    "watch.told_in_changes",
}
# What fails when nobody is told that a worker has gone.
LEAVING = {
    *("life.aclose_withdraws", "records.endpoints_apart", "records.number_used_again"),
    *("watch.all_see_the_same", "watch.many", "watch.misses_nothing", "watch.slow_reader"),
}
# The same, when it is told that there is somebody who is not.
GHOSTS = {
    *("life.aclose_withdraws", "records.gone_when_withdrawn", "records.number_used_again"),
    *("records.replaced", "records.unreadable_is_refused", "watch.all_see_the_same", "watch.in_order"),
    *("watch.lists_what_is_there", "watch.many", "watch.misses_nothing", "watch.slow_reader"),
    "watch.told_in_changes",
}

# Each backend with the case that is meant for it, and what else fails for the same reason.
IN_MEMORY: dict[type[MemoryDiscovery], tuple[str, set[str]]] = {
    wrong.GivesNumbersTwice: ("numbers.none_twice", set()),
    wrong.CountsUp: (
        "numbers.lowest_free",
        {
            *("life.aclose_withdraws", "life.opened_often"),
            *("numbers.cancelled_reserve", "numbers.free_after_withdraw"),
        },
    ),
    wrong.KeepsCancelledNumbers: ("numbers.cancelled_reserve", set()),
    wrong.FreesOnlyPublished: (
        "numbers.free_after_withdraw",
        {"numbers.cancelled_reserve", "records.publish_after_withdraw"},
    ),
    wrong.LosesOnWithdraw: ("numbers.a_whole_life", set()),
    wrong.DropsNulls: ("records.unchanged", set()),
    wrong.Truncates: ("records.large", set()),
    wrong.SeenBeforePublish: ("records.unseen_before_publish", GHOSTS),
    wrong.KeepsFirstRecord: ("records.replaced", {"watch.misses_nothing"}),
    wrong.FlapsOnPublish: ("records.replaced", set()),
    wrong.MissesDeletes: ("records.gone_when_withdrawn", LEAVING),
    wrong.ForgetsWhoWent: ("records.gone_when_withdrawn", LEAVING),
    wrong.DoubtsEverything: ("records.gone_when_withdrawn", set()),
    wrong.SkipsWhatWasBetween: ("records.number_used_again", set()),
    wrong.KeyedByIncarnation: ("records.endpoints_apart", set()),
    wrong.WithdrawsSuccessor: ("records.withdraw_twice", set()),
    wrong.PublishesWithdrawn: ("records.publish_after_withdraw", set()),
    wrong.ForeignErrors: ("life.only_our_errors", {"records.unreadable_is_refused"}),
    wrong.TakesAnything: ("records.unreadable_is_refused", set()),
    wrong.NoFirstBatch: (
        "watch.first_batch_even_if_empty",
        WATCHING - {"life.after_aclose", "life.opened_often", "watch.misses_nothing"},
    ),
    wrong.ListsOneByOne: ("watch.lists_what_is_there", set()),
    wrong.EndsAfterAChange: (
        "watch.goes_on",
        {
            *("life.aclose_withdraws", "records.endpoints_apart", "records.gone_when_withdrawn"),
            *("records.number_used_again", "records.replaced", "records.unreadable_is_refused"),
            *("watch.many", "watch.misses_nothing"),
        },
    ),
    wrong.YieldsChanges: (
        "watch.told_in_changes",
        WATCHING
        - {
            *("life.aclose_ends_watches", "life.aclose_while_busy", "life.after_aclose"),
            *("life.nothing_left_over", "watch.first_batch_even_if_empty"),
        },
    ),
    wrong.WatchesPrefix: ("watch.one_endpoint_or_all", set()),
    wrong.TakesTurns: ("watch.all_see_the_same", {"watch.misses_nothing"}),
    wrong.ListsThenListens: ("watch.misses_nothing", set()),
    wrong.Overtakes: ("watch.in_order", set()),
    wrong.DropsForSlowReaders: ("watch.slow_reader", set()),
    wrong.WaitsForReaders: ("watch.slow_reader", set()),
    wrong.LeavesTasks: ("watch.cancelled", WATCHING),
    wrong.WithstandsCancelling: (
        "watch.cancelled",
        WATCHING - {"life.aclose_ends_watches", "life.after_aclose", "life.opened_often"},
    ),
    wrong.WatchesGoOn: ("life.aclose_ends_watches", set()),
    wrong.BreaksWatches: ("life.aclose_ends_watches", {"life.after_aclose"}),
    wrong.StaysRegistered: ("life.aclose_withdraws", {"life.aclose_while_busy", "life.opened_often"}),
    wrong.ClosesOnce: ("life.aclose_twice", set()),
    wrong.ReservesWhenClosed: ("life.after_aclose", {"life.aclose_while_busy"}),
    wrong.RegistersLate: ("life.aclose_while_busy", set()),
}
SLOW = {
    wrong.ForgetsWhoWent,
    wrong.MissesDeletes,
    wrong.NoFirstBatch,
    wrong.SeenBeforePublish,
    wrong.WithstandsCancelling,
}

IN_FILES: dict[type[FileDiscovery], tuple[str, set[str]]] = {
    wrong.LeavesThread: (
        "life.nothing_left_over",
        (WATCHING - {"life.after_aclose"})
        | {
            *("foreign.both_layouts", "foreign.junk_is_left_out", "foreign.taken_away"),
            *("leases.comes_back", "leases.killed_worker_goes", "leases.processes_see_each_other"),
            "leases.silent_worker_goes",
        },
    ),
    wrong.ReadsItsProcess: ("life.settings_from_the_host", set()),
    wrong.GuessesSettings: ("life.wrong_setting", set()),
    wrong.NeverExpires: ("leases.killed_worker_goes", {"leases.comes_back", "leases.silent_worker_goes"}),
    wrong.NeverBeats: ("leases.silent_worker_goes", {"foreign.taken_away", "leases.comes_back"}),
    wrong.NeverLost: ("foreign.taken_away", set()),
    wrong.RenewsHalf: ("foreign.taken_away", set()),
    wrong.StumblesOverJunk: ("foreign.junk_is_left_out", set()),
    wrong.KnowsOneLayout: ("foreign.both_layouts", set()),
}


def conformance(subject: type[Any]) -> type[DiscoveryConformance]:
    """The class that its author would write."""
    bases: tuple[type[Any], ...] = (DiscoveryConformance,)
    if issubclass(subject, FileDiscovery):
        bases = (FileStore, *bases)
    return type(subject.__name__, bases, {"discovery": subject, "lease_seconds": 6.0})


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory what does not come soon does not come."""
    monkeypatch.setattr(Strain, "patience", 0.2)


def by_speed(subject: type[Any]) -> Any:
    return pytest.param(subject, marks=pytest.mark.slow if subject in SLOW else ())


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("subject", [by_speed(one) for one in IN_MEMORY], ids=lambda one: one.__name__)
def test_the_case_that_is_meant_for_it_fails(subject: type[MemoryDiscovery]):
    meant, also = IN_MEMORY[subject]
    another = set(sorted(also - {meant})[:1])
    check_wrong(conformance(subject), meant, another, only={meant, *another})


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("subject", IN_MEMORY, ids=lambda one: one.__name__)
def test_in_memory(subject: type[MemoryDiscovery]):
    meant, also = IN_MEMORY[subject]
    check_wrong(conformance(subject), meant, also - {meant})


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("subject", IN_FILES, ids=lambda subject: subject.__name__)
def test_in_files(subject: type[FileDiscovery]):
    meant, also = IN_FILES[subject]
    check_wrong(conformance(subject), meant, also - {meant})


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_with_a_server(own_etcd: Etcd):
    class TestNeverReconnects(EtcdStore, DiscoveryConformance):
        discovery = wrong.NeverReconnects
        lease_seconds = 6.0
        server = own_etcd

    TestNeverReconnects.env = {"ETCD_ENDPOINTS": own_etcd.url}
    found = tried(TestNeverReconnects, only={"watch.told_in_changes", "leases.server_back"})
    assert found.failed == {"leases.server_back"}, found.told()
    assert found.first == "leases.server_back"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_right_one_passes_twenty_times():
    for _ in range(20):
        found = tried(conformance(MemoryDiscovery))
        assert not found.failed, found.told()


@pytest.mark.usefixtures("hasty")
def test_what_the_wrong_ones_are_made_of_is_right():
    found = tried(conformance(wrong.Registered))
    assert found.level == "base", found.told()
    assert not found.failed


def test_every_wrong_backend_stands_in_the_table():
    backends = {
        one for one in vars(wrong).values() if isinstance(one, type) and one.__module__ == wrong.__name__
    }
    tried_ones = {*IN_MEMORY, *IN_FILES, wrong.NeverReconnects, wrong.Registered}
    assert {one for one in backends if issubclass(one, Discovery)} == tried_ones
