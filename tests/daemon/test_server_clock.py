"""How far a rail was watched, by the database's clock: never farther than it was."""

from datetime import UTC, datetime, timedelta

from railwatch.daemon.server_clock import READINGS_KEPT, ServerClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_a_moment_is_reckoned_forward_from_what_the_server_showed_before() -> None:
    clock = ServerClock()
    assert clock.at(5.0) is None
    clock.note(NOON, 10.0)
    assert clock.at(9.9) is None
    assert clock.at(10.0) == NOON
    assert clock.at(13.5) == after(3.5)


def test_a_machine_that_slept_watched_nothing_meanwhile() -> None:
    """Our clock stops while a machine sleeps, and the server's goes on."""
    clock = ServerClock()
    clock.note(NOON, 10.0)
    asked = 11.0
    clock.note(after(502), 12.0)  # It slept for 500 s after it had asked the nodes.
    assert clock.at(asked) == after(1)
    assert clock.at(13.0) == after(503)


def test_a_server_whose_clock_goes_back_begins_anew() -> None:
    clock = ServerClock()
    clock.note(NOON, 10.0)
    clock.note(after(-60), 11.0)
    assert clock.at(10.5) is None
    assert clock.at(12.0) == after(-59)


def test_readings_are_bounded() -> None:
    clock = ServerClock()
    for second in range(3 * READINGS_KEPT):
        clock.note(after(second), float(second))
    assert clock.at(2.0 * READINGS_KEPT) == after(2 * READINGS_KEPT)
    assert clock.at(1.0) is None
