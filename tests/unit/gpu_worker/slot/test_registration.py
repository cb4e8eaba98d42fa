"""Which orders a worker obeys."""

from dataclasses import replace

import pytest

from gpu_worker.slot.registration import CLAIM_PAUSE_S, Claim, Heading, OrdersVerdict, WorkerStanding, judge_orders

NEW = WorkerStanding(boot="me", high_water=7)
KNOWN = replace(NEW, incarnation="inc1", first_boot="before", first_epoch=0)
REGISTERED = replace(KNOWN, epoch=3)


def heading(incarnation="inc1", epoch=3, boot="me", generation=8, refused=""):
    return Heading(incarnation=incarnation, epoch=epoch, boot=boot, generation=generation, refused=refused)


def test_an_unknown_slot_waits_and_is_unregistered():
    verdict, standing = judge_orders(REGISTERED, heading(incarnation="", epoch=0, boot="", generation=0))
    assert verdict is OrdersVerdict.WAIT
    assert (standing.incarnation, standing.epoch, standing.high_water) == ("", 0, 7)


def test_a_foreign_incarnation_is_taken_over_and_waited_for():
    verdict, standing = judge_orders(REGISTERED, heading(incarnation="inc2"))
    assert verdict is OrdersVerdict.WAIT
    assert (standing.incarnation, standing.epoch) == ("inc2", 0)
    assert judge_orders(standing, heading(incarnation="inc2"))[0] is OrdersVerdict.WAIT
    assert judge_orders(standing, heading(incarnation="inc2", epoch=4))[0] is OrdersVerdict.OBEY


@pytest.mark.parametrize("boot", ["", "before"])
def test_orders_of_a_predecessor_wait_for_the_registration(boot):
    assert judge_orders(KNOWN, heading(boot=boot)) == (OrdersVerdict.WAIT, KNOWN)


def test_our_boot_with_an_epoch_is_obeyed_and_raises_the_mark():
    assert judge_orders(KNOWN, heading()) == (OrdersVerdict.OBEY, replace(KNOWN, epoch=3, high_water=8))


def test_the_same_generation_is_obeyed_again():
    assert judge_orders(REGISTERED, heading(generation=7))[0] is OrdersVerdict.OBEY


@pytest.mark.parametrize("old", [{"generation": 6}, {"epoch": 2, "generation": 7}])
def test_older_orders_are_stale(old):
    assert judge_orders(REGISTERED, heading(**old)) == (OrdersVerdict.STALE, REGISTERED)


def test_an_emptied_store_that_registered_us_again_is_obeyed():
    assert judge_orders(REGISTERED, heading(epoch=1, generation=8))[0] is OrdersVerdict.OBEY
    _, waiting = judge_orders(REGISTERED, heading(incarnation="", epoch=0, boot="", generation=0))
    _, seen = judge_orders(waiting, heading(epoch=1))
    assert judge_orders(seen, heading(epoch=1))[0] is OrdersVerdict.OBEY


@pytest.mark.parametrize("standing", [REGISTERED, KNOWN])
def test_another_boot_later_supersedes(standing):
    assert judge_orders(standing, heading(boot="rival", epoch=4))[0] is OrdersVerdict.SUPERSEDED


def test_an_emptied_order_supersedes_nobody():
    assert judge_orders(REGISTERED, heading(boot=""))[0] is OrdersVerdict.WAIT


def test_who_is_refused_has_no_slot_and_does_not_take_its_holder_for_a_successor():
    assert judge_orders(KNOWN, heading(boot="before", refused="me")) == (OrdersVerdict.TAKEN, KNOWN)
    assert judge_orders(KNOWN, heading(boot="other", refused="me"))[0] is OrdersVerdict.TAKEN


def test_somebody_elses_refusal_is_nothing_to_us():
    assert judge_orders(REGISTERED, heading(refused="rival"))[0] is OrdersVerdict.OBEY
    assert judge_orders(KNOWN, heading(boot="before", refused="rival"))[0] is OrdersVerdict.WAIT


def test_a_refused_worker_keeps_quiet_asks_again_now_and_then_and_gives_up():
    claim = Claim(patience_s=12.0)
    assert claim.may_report(0.0)
    assert not claim.refused(1.0)
    assert not claim.may_report(1.5), "its report would stand where the other's belongs"
    assert claim.may_report(1.0 + CLAIM_PAUSE_S)
    claim.reported(1.0 + CLAIM_PAUSE_S)
    assert not claim.may_report(2.0 + CLAIM_PAUSE_S)
    assert not claim.refused(12.0)
    assert claim.refused(13.5)


def test_no_report_is_due_before_it_may_be_written():
    claim = Claim(patience_s=12.0)
    assert claim.report_due_s(2.0) == 2.0
    claim.refused(1.0)
    assert claim.report_due_s(2.0) == 1.0 + CLAIM_PAUSE_S
    assert claim.may_report(claim.report_due_s(2.0))
    assert claim.report_due_s(9.0) == 9.0


def test_a_worker_that_got_the_slot_in_the_end_reports_as_any():
    claim = Claim(patience_s=12.0)
    claim.refused(1.0)
    claim.accepted()
    assert claim.may_report(1.5)
    assert not claim.refused(100.0), "another refusal begins anew"
