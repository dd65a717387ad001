"""The optimisers of a recipe."""

import pytest

from tfp_distill.runs.fitting.optimizers import make_optimizer
from tfp_distill.runs.recipe import Recipe


@pytest.mark.parametrize(
    ("asked", "steps", "momentum"),
    [(0.99, 3000, 0.99), (0.999, 20_000, 0.999), (0.999, 3000, 1 - 20 / 3000), (0.99, 15, 0.0)],
)
def test_averages_are_of_a_twentieth_of_the_steps_at_most(asked, steps, momentum):
    optimizer = make_optimizer(Recipe(ema_momentum=asked), 0.01, steps)
    assert optimizer.use_ema and optimizer.ema_momentum == pytest.approx(momentum)


def test_weights_need_not_be_averaged():
    assert not make_optimizer(Recipe(ema_momentum=0.0), 0.01, 3000).use_ema
