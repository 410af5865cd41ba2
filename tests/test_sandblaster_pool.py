"""Sandblaster's units: handed out and counted once, whatever the workers do."""

import threading
import time

import numpy as np
import pytest

from zoo.distribute.cluster import WorkerLostError
from zoo.distribute.sandblaster_pool import Pool, UnitSums
from zoo.distribute.sandblaster_units import Units

pytestmark = pytest.mark.usefixtures("in_time")


def test_a_free_worker_gets_a_copy_of_what_takes_too_long_and_one_result_counts():
    now = [0.0]
    units, counted = Units(3, patience=2.0, clock=lambda: now[0]), []
    assert [units.take("slow"), units.take("quick")] == [0, 1]
    now[0] = 1.0
    assert units.finish("quick", 1, lambda: counted.append(1))
    assert units.take("quick") == 2
    now[0] = 3.0
    assert units.finish("quick", 2, lambda: counted.append(2))
    # Usual are 1.5 s, so that after 3 s a copy is due, and only one.
    assert units.take("quick") == 0
    assert units.backups == 1
    assert units.finish("quick", 0, lambda: counted.append(0))
    assert not units.finish("slow", 0, lambda: counted.append(0))
    assert (sorted(counted), units.over, units.take("slow")) == ([0, 1, 2], True, None)


def test_a_late_copy_does_not_count_while_the_pass_goes_on():
    now = [0.0]
    units, counted = Units(3, patience=2.0, clock=lambda: now[0]), []
    assert [units.take(name) for name in ("slow", "quick", "other")] == [0, 1, 2]
    now[0] = 1.0
    assert units.finish("quick", 1, lambda: counted.append(1))
    now[0] = 4.0
    assert units.take("quick") == 0
    assert units.finish("quick", 0, lambda: counted.append(0))
    assert not units.finish("slow", 0, lambda: counted.append(0))
    assert not units.over
    assert units.finish("other", 2, lambda: counted.append(2))
    assert (counted, units.over, units.left) == ([1, 0, 2], True, 0)


def test_nobody_copies_before_its_time_or_his_own():
    now = [0.0]
    units = Units(2, patience=2.0, usual=1.0, clock=lambda: now[0])
    assert [units.take("a"), units.take("b")] == [0, 1]
    now[0] = 1.9
    assert units._slowest("c") == (0, pytest.approx(0.1))
    assert units._slowest("a")[0] == 1
    now[0] = 9.0
    assert units.take("c") == 0
    assert units._slowest("d")[0] == 1
    units.lose("b")
    assert units.take("d") == 1
    units.lose("a")
    units.lose("c")
    assert units.take("e") == 0
    with pytest.raises(ValueError, match="at least 1 each"):
        Units(0)


def numbers(point, unit):
    """Sums that tell exactly which units were counted."""
    return UnitSums(2.0**unit, [np.full(2, unit, np.float32) * point], [np.ones(1)], 1)


def test_slow_hanging_and_dying_workers_change_nothing():
    hangs = threading.Event()

    def hanging(point, unit):
        hangs.wait(60)
        return numbers(point, unit)

    def dying(point, unit):
        raise OSError("gone")

    def steady(point, unit):
        time.sleep(0.003)
        return numbers(point, unit)

    workers = {"a": steady, "b": steady, "dies": dying, "hangs": hanging}
    with Pool(workers, units=30) as pool:
        began = time.monotonic()
        first = pool.run(np.ones(2))
        assert time.monotonic() - began < 20
        assert first.loss == (2**30 - 1) / 30
        assert first.gradient.tolist() == [14.5, 14.5]
        assert first.backups >= 1
        assert (first.state, first.lost, pool.alive) == ([1.0], 1, ["a", "b", "hangs"])
        # Let go in the middle of the next pass, what it brings is of the one before.
        pool.add("dies", steady)
        threading.Timer(0.01, hangs.set).start()
        second = pool.run(np.full(2, 3.0))
        assert second.loss == first.loss
        assert (second.gradient.tolist(), second.lost) == ([43.5, 43.5], 0)
        assert "OSError" not in repr(pool.reports["dies"])
        assert sum(report.counted for report in pool.reports.values()) == 60


def test_without_workers_a_pass_ends_in_an_error():
    def dying(point, unit):
        if unit:
            raise OSError("disk of no use")
        return numbers(point, unit)

    with Pool({"a": dying, "b": dying}, units=4) as pool:
        for _ in range(2):
            with pytest.raises(WorkerLostError, match=r"all workers .*OSError: disk of no use.*resume"):
                pool.run(np.ones(2))
