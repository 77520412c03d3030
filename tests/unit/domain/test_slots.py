"""The cap on jobs in flight over all runs: never passed, scoring first, equals alike, nothing idle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.slots import Claim, grant

CLAIMS = st.lists(
    st.builds(Claim, st.sampled_from(["score", "train"]), st.just(0), st.integers(0, 60)), min_size=1, max_size=5
)


def settle(claims: list[Claim], cap: int) -> list[Claim]:
    """Let each phase ask in turn until nobody gets any more."""
    for _ in range(200):
        before = list(claims)
        for index, own in enumerate(claims):
            given_now = grant(own, claims[:index] + claims[index + 1:], cap)
            claims[index] = Claim(own.kind, own.in_flight + given_now, own.wanted - given_now)
        if claims == before:
            return claims
    raise AssertionError("it never settles")


@given(CLAIMS, st.integers(0, 40))
def test_the_cap_is_kept_and_used(claims: list[Claim], cap: int) -> None:
    wanted = sum(claim.wanted for claim in claims)
    settled = settle(list(claims), cap)
    assert sum(claim.in_flight for claim in settled) == min(max(1, cap), wanted)


@given(CLAIMS, st.integers(1, 40))
def test_training_gets_nothing_while_scoring_wants(claims: list[Claim], cap: int) -> None:
    settled = settle(list(claims), cap)
    if any(claim.kind == "score" and claim.wanted for claim in settled):
        assert all(claim.in_flight == 0 for claim in settled if claim.kind == "train")


def test_a_running_job_is_never_taken_away_and_a_newcomer_gets_the_next_free_one() -> None:
    busy = Claim("train", 10, 50)
    assert grant(Claim("train", 0, 5), [busy], 10) == 0
    one_ended = Claim("train", 9, 50)
    assert grant(one_ended, [Claim("train", 0, 5)], 10) == 0
    assert grant(Claim("train", 0, 5), [one_ended], 10) == 1


def test_equals_share_alike() -> None:
    assert [claim.in_flight for claim in settle([Claim("train", 0, 100), Claim("train", 0, 100)], 20)] == [10, 10]
    assert [claim.in_flight for claim in settle([Claim("train", 0, 100), Claim("train", 0, 3)], 20)] == [17, 3]
