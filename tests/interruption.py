"""How tests end a training before its time."""

from __future__ import annotations

import keras


class Interrupt(keras.callbacks.Callback):
    """Raises `InterruptedError` after a training step of the model."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if self.model.step == self.step:
            raise InterruptedError
