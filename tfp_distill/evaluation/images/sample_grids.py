"""Pictures of samples while a flow of images trains."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.compiling import compiled
from tfp_distill.evaluation.figures.mosaic import mosaic
from tfp_distill.evaluation.figures.pictures import check_temperature, pixel_format_of
from tfp_distill.flows import Flow
from tfp_distill.flows.config import check_at_least
from tfp_distill.training import PartwiseModel, averaged_weights, sample_latents

__all__ = ["SampleGrid"]


class SampleGrid(keras.callbacks.Callback):
    """Writes a square of samples after an epoch, always from the same latents.

    It writes `directory/epoch_0003.png` after the third epoch, and the same picture, named
    "samples", for TensorBoard at the training step. It works in the `fit` of a flow of images, and
    of a distiller for its student; where the optimiser averages weights, the averages draw. Under a
    strategy of several workers only the chief writes. Example:

        flow.fit(dataset, epochs=100, callbacks=[SampleGrid("run/samples", every=5)])

    Args:
      directory: the folder of the files; made when it is missing.
      num_samples: number of samples.
      temperature: standard deviation of the latents.
      every: number of epochs from one picture to the next.
      seed: equal seeds give equal latents; those of `flow.sample(num_samples, seed=seed)`.
      tensorboard: whether to write for TensorBoard too.

    Raises:
      ValueError: if an argument breaks a rule.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        num_samples: int = 64,
        temperature: float = 0.7,
        every: int = 1,
        seed: int = 0,
        tensorboard: bool = True,
    ) -> None:
        super().__init__()
        check_at_least(1, num_samples=num_samples, every=every)
        check_at_least(0, seed=seed)
        check_temperature(temperature=temperature)
        self._directory = os.fspath(directory)
        self._num_samples = num_samples
        self._temperature = temperature
        self._every = every
        self._seed = seed
        self._tensorboard = tensorboard
        self._flow: Flow | None = None
        self._generate: Callable[[], tf.Tensor] | None = None
        self._writer: tf.summary.SummaryWriter | None = None

    def set_model(self, model: keras.Model) -> None:
        """Takes the model that is fitted.

        Raises:
          ValueError: if what it trains is not a flow of images.
        """
        flow = model.trained_flow() if isinstance(model, PartwiseModel) else model
        if not isinstance(flow, Flow) or not flow.config.domain.is_images:
            shape = f" of shape {flow.event_shape}" if isinstance(flow, Flow) else ""
            raise ValueError(
                "`SampleGrid` must be used with a flow of images or the distiller of one, "
                f"got {type(flow).__name__}{shape}."
            )
        super().set_model(model)
        if flow is not self._flow:
            self._flow, self._generate = flow, None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Writes the picture, after every so many epochs."""
        is_chief = self.model.distribute_strategy.extended.should_checkpoint
        if is_chief and (epoch + 1) % self._every == 0:
            self._write(self._picture(), epoch + 1)

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Closes TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _picture(self) -> np.ndarray:
        if self._generate is None:
            self._generate = self._make_generator()
        with averaged_weights(self.model):
            images = self._generate().numpy()
        columns = math.ceil(math.sqrt(len(images)))
        return mosaic(images, math.ceil(len(images) / columns), columns)

    def _make_generator(self) -> Callable[[], tf.Tensor]:
        flow = self.model if isinstance(self.model, Flow) else self.model.student
        pixel_format = pixel_format_of(flow)
        z = self._temperature * sample_latents(
            self._num_samples, flow.latent_dims, self._seed, flow.compute_dtype
        )
        # Not by XLA, which takes longer to compile a large flow than all pictures take to draw.
        function = compiled(lambda z: pixel_format.quantize(flow.to_data(z)), z, jit_compile=False)
        return functools.partial(function, z)

    def _write(self, picture: np.ndarray, epoch: int) -> None:
        tf.io.gfile.makedirs(self._directory)
        path = os.path.join(self._directory, f"epoch_{epoch:04d}.png")
        tf.io.write_file(path, tf.io.encode_png(picture))
        if self._tensorboard:
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(self._directory)
            with self._writer.as_default():
                tf.summary.image("samples", picture[np.newaxis], step=self.model.step)
            self._writer.flush()
