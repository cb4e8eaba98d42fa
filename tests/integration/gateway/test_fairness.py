"""The starvation demo through ``/v1``, short: clients that know nothing of leases, real llama.cpp servers.

With a `llama-server` on the PATH that has a router, its side is measured too; `make demo-fairness` is the long form.
"""

import shutil

import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

from bench.parts.llama_router import RouterMissingError, server_argv
from bench.parts.v1_client import Streams
from bench.v1_fairness import Flood, Setting, Side, Switch, kept, measure, measure_ours, table
from harness.stack import SHAPE
from hotseat.llama_server import llama_server_argv

SHORT = Setting(slice_min_s=2.0, tokens=200, before_s=2.0, patience_s=6.0, flood_s=7.0, shape=SHAPE)

JAIN = 0.75
"""In order of arrival it would be 0.5."""


@pytest.mark.redis
@pytest.mark.slow
def test_a_busy_model_makes_room_and_a_flood_gets_its_share_through_v1():
    ours = measure_ours(SHORT, llama_server_argv())
    assert ours.switch.streams.finished > 0
    assert kept(ours, least_jain=JAIN), "\n".join(table([ours]))


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("llama-server") is None, reason="no llama-server on the PATH")
def test_the_same_clients_beside_llama_servers_router():
    ours, theirs = measure(SHORT, server_argv(None))
    assert kept(ours, least_jain=JAIN), "\n".join(table([ours]))
    assert theirs.switch.streams.finished > 0
    assert theirs.switch.streams.failures == []
    assert ours.flood.jain > theirs.flood.jain


def test_a_program_without_a_router_is_named():
    with pytest.raises(RouterMissingError, match="no router"):
        server_argv(shutil.which("true"))
    with pytest.raises(RouterMissingError, match="nowhere"):
        server_argv("/nowhere/llama-server")


def side(*, waited_s: float | None = 4.0, jain: float = 0.95, failures: tuple[str, ...] = ()) -> Side:
    streams = Streams(finished=3, failures=list(failures))
    switch = Switch(waited_s=waited_s, after_stop_s=None if waited_s else 0.3, gaps=0, streams=streams)
    return Side(name="x", switch=switch, flood=Flood(tokens=(1, 1), jain=jain, failures=()), bound_s=5.0)


def test_a_broken_promise_is_seen():
    assert kept(side())
    assert not kept(side(waited_s=5.1))
    assert not kept(side(waited_s=None))
    assert not kept(side(jain=0.89))
    assert not kept(side(failures=("cut",)))


def test_the_table_says_where_b_never_came():
    text = "\n".join(table([side(), side(waited_s=None)]))
    assert "4.0 s" in text
    assert "never while A is busy; 0.3 s after A's clients stopped" in text
