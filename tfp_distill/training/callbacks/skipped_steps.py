"""An end to trainings that take no step any more, and what is not finite in them."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.bijectors import named_visits
from tfp_distill.training.partwise_model import PartwiseModel
from tfp_distill.training.step_metrics import losses_by_name
from tfp_distill.training.step_random import StepRandom

__all__ = ["StopOnSkippedSteps"]

_MOST_ROWS = 256
_ADVICE = "a smaller learning rate may help, or a look at the data"


class StopOnSkippedSteps(keras.callbacks.Callback):
    """Ends a training by a `FloatingPointError` when too many steps in a row were skipped.

    A step whose loss or gradient is not finite changes nothing. When nothing changes any more,
    either the data are at fault, or the last step that was taken: its loss and gradient were
    finite, but the weights that it left give none that are. To tell them apart, the flow is run on
    held rows, in the normalizing direction and without the noise of a data pipeline, and the
    message names the first bijector whose weights, output or log-determinant are not finite; where
    all of them are, the losses, or the gradients, that are not.

    A copy of the trainable weights is held, taken every `patience` steps, because the last step
    that was taken may have spoilt them, and nothing else remembers what they were before. It counts
    as healthy as soon as a step was taken from it. If the weights are found at fault, the model
    gets the copy; if they are not, it keeps what it has, to which all steps but the skipped ones
    have led. Optimisers stay as they are: compile the model again with a smaller learning rate.

    Example:
        flow.fit(dataset_of_x, epochs=100, callbacks=[StopOnSkippedSteps(validation_x)])

    A model that trains in parts is ended too if some part skips so many steps in a row. With
    `steps_per_execution` n it is noticed after whole executions.

    Args:
      x: held rows `[n, ...]` that the flow can map, of which up to 256 are used.
      condition: `[n, C]` for conditional flows.
      patience: so many steps in a row may be skipped.

    Raises:
      ValueError: if there are no rows, or `patience` is not positive.
    """

    def __init__(self, x: Array, condition: Array | None = None, *, patience: int = 100) -> None:
        super().__init__()
        if len(x) < 1:
            raise ValueError("`x` must have at least one row, got none.")
        if patience < 1:
            raise ValueError(f"`patience` must be at least 1, got {patience}.")
        self._x = np.asarray(x[:_MOST_ROWS])
        self._condition = None if condition is None else np.asarray(condition[:_MOST_ROWS])
        self._patience = patience

    def set_model(self, model: keras.Model) -> None:
        """Takes the model that is fitted.

        Raises:
          ValueError: if it does not count the steps that it skips.
        """
        if not isinstance(model, PartwiseModel):
            raise ValueError(
                "`StopOnSkippedSteps` must be used with a Flow or a FlowDistiller, "
                f"got {type(model).__name__}."
            )
        super().set_model(model)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Begins to count, and copies the weights."""
        self._seen = self.model.step, self.model.skipped_steps
        self._in_row = 0
        self._held: tuple[int, list[np.ndarray]] | None = None
        self._candidate: tuple[int, list[np.ndarray]] | None = self._copy()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Counts the steps that were skipped since the last one that was taken.

        Raises:
          FloatingPointError: if they are too many.
        """
        step, skipped = now = self.model.step, self.model.skipped_steps
        steps, of_them_skipped = step - self._seen[0], skipped - self._seen[1]
        self._seen = now
        if of_them_skipped < steps:
            self._in_row = 0
            if self._candidate is not None:
                self._held, self._candidate = self._candidate, None
            elif self._held is None or step - self._held[0] >= self._patience:
                self._candidate = self._copy()
            return
        self._in_row += of_them_skipped
        if self._in_row >= self._patience:
            raise FloatingPointError(self._end(step))

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Lets the copies go."""
        self._held = self._candidate = None

    def _copy(self):
        return self.model.step, [weight.numpy() for weight in self.model.trainable_variables]

    def _end(self, step):
        """Gives the model healthy weights; returns the message."""
        first = step - self._in_row + 1
        found = self._fault_of_flow() or self._fault_of_losses()
        weights = "the weights are as the last step before them left them"
        if found is None:
            found = (
                f"on {len(self._x)} held rows all is finite, so that the data of these steps are "
                "at fault"
            )
        elif self._held is not None:
            copied, values = self._held
            for weight, value in zip(self.model.trainable_variables, values, strict=True):
                weight.assign(value)
            weights = f"the weights are those after step {copied:,} again"
        return (
            f"Training stopped at step {step:,}: {self._in_row:,} steps in a row, from step "
            f"{first:,} on, were skipped, because a loss or gradient was not finite; {found}; "
            f"{weights}; {_ADVICE}."
        )

    def _fault_of_flow(self):
        """Returns what is not finite first on the way from the data to the latents, if any."""
        if (flow := self.model.trained_flow()) is None:
            return None
        for name, visit in named_visits(flow.bijector, *self._inputs()):
            weights = [w for w in visit.bijector.variables if not np.isfinite(w.numpy()).all()]
            if weights:
                return f"weights of {name} are not finite"
            for text, value in (("output", visit.z), ("log-determinant", visit.ildj)):
                finite = np.isfinite(value.numpy()).reshape(len(value), -1).all(axis=1)
                if not finite.all():
                    rows = f"{np.count_nonzero(~finite)} of {len(finite)} held rows"
                    return f"the {text} of {name} is not finite for {rows}"
        return None

    def _fault_of_losses(self):
        """Returns the losses of the held rows that are not finite, or the gradients, if any."""
        model = self.model
        random = StepRandom(model.seed, tf.constant(model.step))
        with tf.GradientTape() as tape:
            if model.active_parts is None:
                losses = model.objective(*self._inputs(), random)
                total = losses["loss"]
            else:
                of_parts = model.part_objectives(*self._inputs(), model.active_parts)
                losses = losses_by_name(of_parts)
                total = tf.add_n([own["loss"] for own in of_parts.values()])
            total = tf.reduce_mean(total)
        wrong = [name for name, value in losses.items() if not np.isfinite(value.numpy()).all()]
        if wrong:
            return f"on {len(self._x)} held rows, {', '.join(wrong)} is not finite"
        weights = model.trainable_variables
        gradients = tape.gradient(total, [weight.value for weight in weights])
        wrong = [
            weight.path
            for weight, gradient in zip(weights, gradients, strict=True)
            if gradient is not None and not np.isfinite(gradient.numpy()).all()
        ]
        if wrong:
            more = f" and {len(wrong) - 1} more weights" if len(wrong) > 1 else ""
            return f"on {len(self._x)} held rows, the gradient of {wrong[0]}{more} is not finite"
        return None

    def _inputs(self):
        dtype = self.model.compute_dtype
        return tuple(
            None if value is None else tf.convert_to_tensor(value, dtype)
            for value in (self._x, self._condition)
        )
