"""A service that ends by itself is started again, each time later, and not for ever."""

from __future__ import annotations

from flows.serve.supervision import ATTEMPTS, Restarts


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_each_wait_is_longer_until_it_is_hopeless() -> None:
    clock = Clock()
    restarts = Restarts(now=clock)
    waits = []
    while not restarts.hopeless:
        clock.seconds += 1
        waits.append(wait := restarts.ended())
        clock.seconds += wait
        assert restarts.ended() == 0
        restarts.started()
    assert waits == sorted(waits)
    assert waits[0] == 0
    assert len(waits) == ATTEMPTS


def test_a_steady_service_begins_anew() -> None:
    clock = Clock()
    restarts = Restarts(now=clock)
    for _ in range(3):
        clock.seconds += 1 + restarts.ended()
        restarts.started()
    clock.seconds += 1000
    assert restarts.ended() == 0
    assert not restarts.hopeless


def test_asking_again_does_not_lengthen_the_wait() -> None:
    clock = Clock()
    restarts = Restarts(now=clock)
    restarts.started()
    first = restarts.ended()
    clock.seconds += first / 2
    assert restarts.ended() == first / 2
