"""Tests of the division of weight between rows and samples of the teacher."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from flow_pairs import batches, data, make_flow

from tfp_distill.distillation import (
    DataBalance,
    FlowDistiller,
    ForwardKLLoss,
    LatentLoss,
    balance,
)
from tfp_distill.training import averaged_weights


def _distiller(losses=None, weights=(0.5,), nll_weight=0.5):
    student, teacher = make_flow("glow", num_steps=1, seed=1), make_flow("glow", seed=2)
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=losses or [ForwardKLLoss()],
        distillation_loss_weights=list(weights),
        student_loss_weight=nll_weight,
    )
    distiller.compile("adam", jit_compile=False)
    return distiller


@pytest.mark.parametrize(
    ("tolerated", "learned_by_heart", "factor"),
    [
        (0.3, 0.2, 1.5),
        (0.2, 0.3, 2 / 3),
        (0.2, 0.2, 1.0),
        (0.1, 5.0, 0.5),
        (0.1, 0.01, 2.0),
        (0.1, 0.0, 2.0),
        (0.1, -1.0, 2.0),
        (0.0, 0.3, 2.0),  # As good as the teacher: rows are all that is left to learn from.
        (-1.0, 0.3, 2.0),
        (np.inf, np.inf, 0.5),
        (np.nan, np.nan, 0.5),
    ],
)
def test_the_factor_of_the_odds(tolerated, learned_by_heart, factor):
    assert balance._factor(tolerated, learned_by_heart) == pytest.approx(factor)


@pytest.mark.slow
@pytest.mark.parametrize("use_ema", [False, True])
def test_the_odds_follow_the_measured_nlls(use_ema):
    distiller = _distiller(nll_weight=0.75, weights=[0.5])
    distiller.compile(_adam(use_ema), jit_compile=False)
    rows, held_out = data(10), data(30, seed=8)
    seen = {}

    class Look(DataBalance):
        def on_epoch_end(self, epoch, logs=None):
            with averaged_weights(self.model):
                for name, x in (("rows", rows), ("held_out", held_out)):
                    seen[name] = -float(np.mean(self.model.student.log_prob(x)))
            super().on_epoch_end(epoch, logs)

    look = Look(rows, held_out, tolerance=0.5, batch_size=7)
    logs = distiller.fit(batches(rows), epochs=1, verbose=0, callbacks=[look])
    teacher_nll = -float(np.mean(distiller.teacher.log_prob(held_out)))
    learned, to_gain = seen["held_out"] - seen["rows"], seen["held_out"] - teacher_nll
    odds = 1.5 * min(1.0, balance._factor(0.5 * to_gain, learned))
    weights = distiller.loss_weights
    assert weights["nll"] / weights["forward_kl_loss"] == pytest.approx(odds, rel=1e-4)
    assert odds < 1.5
    assert sum(weights.values()) == pytest.approx(1.25)
    assert logs.history["nll_weight"] == [pytest.approx(weights["nll"])]


def _adam(use_ema):
    return keras.optimizers.Adam(1e-3, use_ema=use_ema, ema_momentum=0.5)


def test_rows_that_are_learned_by_heart_lose_their_weight_and_keep_a_little():
    distiller = _distiller()
    rows = data(4)
    callback = DataBalance(rows, data(64, seed=5), tolerance=0.1)
    distiller.compile("adam", jit_compile=False)
    callback.set_model(distiller)
    distiller.student.compile(_adam(False), jit_compile=False)
    distiller.student.fit(
        tf.data.Dataset.from_tensors(rows).repeat(), epochs=1, steps_per_epoch=300, verbose=0
    )
    weights = []
    for epoch in range(8):
        callback.on_epoch_end(epoch)
        weights.append(distiller.loss_weights["nll"])
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] == pytest.approx(1 / 65)
    assert distiller.active_losses == ("nll", "forward_kl_loss")
    distiller.set_loss_weights({"forward_kl_loss": 0.0})
    callback.on_epoch_end(9)  # Somebody else has ended the distillation.
    assert distiller.loss_weights == {"nll": pytest.approx(1 / 65), "forward_kl_loss": 0.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataBalance(data(0), data(2)), "`x` must have at least one row, got none"),
        (lambda: DataBalance(data(2), data(0)), "`held_out` must have at least one row, got none"),
        (
            lambda: DataBalance(data(2), data(2), tolerance=0.0),
            "`tolerance` must be positive, got 0.0",
        ),
        (
            lambda: DataBalance(data(2), data(2)).set_model(_distiller([LatentLoss()])),
            "`loss_name` must be among nll, latent_loss, got 'forward_kl_loss'",
        ),
        (
            lambda: DataBalance(data(2), data(2)).set_model(_distiller(nll_weight=0.0)),
            "must have weights of nll and forward_kl_loss above 0 to divide, got 0.0 and 0.5",
        ),
        (
            lambda: DataBalance(data(2), data(2)).set_model(make_flow("glow", num_steps=1)),
            "must be used with a FlowDistiller, got Flow",
        ),
        (
            lambda: DataBalance(data(2, dims=2), data(2)).set_model(_distiller()),
            r"`x` of .* must have shape \(batch, 3\), got \(2, 2\)",
        ),
        (
            lambda: DataBalance(data(2), data(2, dims=2)).set_model(_distiller()),
            r"`x` of .* must have shape \(batch, 3\), got \(2, 2\)",
        ),
    ],
)
def test_illegal_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
