"""How the pooled net learns: our AdamW is AdamW, and the rate rises and falls whatever the number of steps."""

from __future__ import annotations

import pytest
import torch

from ml_jobs.forecasting.net_training import WEIGHT_DECAY, _AdamW, cycle


def test_the_optimizer_takes_pytorchs_steps() -> None:
    generator = torch.Generator().manual_seed(4)
    rows, target = torch.randn(64, 5, generator=generator), torch.randn(64, generator=generator)
    ours, theirs = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    own = _AdamW([ours])
    reference = torch.optim.AdamW([theirs], lr=1.0, weight_decay=WEIGHT_DECAY)
    for step in range(20):
        rate = 0.01 * cycle(step / 20)
        own.step((rows @ ours - target).abs().mean(), rate)
        reference.param_groups[0]["lr"] = rate
        reference.zero_grad()
        torch.autograd.backward([(rows @ theirs - target).abs().mean()])
        reference.step()
    assert ours.detach().numpy() == pytest.approx(theirs.detach().numpy(), abs=1e-6)


def test_the_rate_rises_early_and_ends_at_nothing() -> None:
    shares = [cycle(done / 100) for done in range(101)]
    assert max(shares) == shares[20] == pytest.approx(1.0)
    assert shares[:21] == sorted(shares[:21])
    assert shares[20:] == sorted(shares[20:], reverse=True)
    assert (shares[0], shares[-1]) == (pytest.approx(0.04), pytest.approx(0.0))
