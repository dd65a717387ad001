"""How near a student comes to its teacher as a sampler."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfp_distill.arrays import Array
from tfp_distill.evaluation.flow_result import Result
from tfp_distill.evaluation.paired import PairedDifference, paired_difference
from tfp_distill.evaluation.samples.two_sample import TwoSampleTest, two_sample_auc
from tfp_distill.evaluation.text_table import Table

__all__ = ["SamplerComparison", "compare_sampler", "sampler_table"]

_NOTE = (
    "KL is log p(teacher) - log p(model) on samples of the teacher, in nats, ± two standard "
    "errors; its part of what the teacher is ahead of a normal distribution of the same mean and "
    "covariance there, unless a few samples decide on it; the area under the ROC curve of a "
    "classifier that tells samples of the two apart (0.5: it cannot), ± two standard errors; and "
    "how many samples a model draws while its teacher draws one, in batches of {} rows."
)


@dataclasses.dataclass(frozen=True)
class SamplerComparison:
    """A student beside its teacher, on samples.

    Attributes:
      kl: the mean of log p_t(x) - log p_s(x) over samples x of the teacher, an estimate of
        KL(teacher || student), in nats.
      gain: the mean of log p_t(x) - log N(x; mean, covariance) over them, in nats: what the teacher
        knows beyond two moments.
      two_sample: how well a classifier tells samples of the two apart.
    """

    kl: PairedDifference
    gain: float
    two_sample: TwoSampleTest

    @property
    def lost(self) -> float:
        """The part of the gain that the student has lost: 0 for the teacher, 1 for the normal."""
        return self.kl.mean / self.gain

    @property
    def is_known(self) -> bool:
        """Whether two standard errors of the KL are less than itself, or than 5 % of the gain.

        Where they are not, a few samples far out make the KL what it is.
        """
        return 2 * self.kl.standard_error < max(self.kl.mean, 0.05 * self.gain) and self.gain > 0


def compare_sampler(
    teacher_samples: Array,
    student_samples: Array,
    *,
    teacher_log_probs: Array,
    student_log_probs: Array,
    seed: int = 0,
) -> SamplerComparison:
    """Compares a student with its teacher.

    Args:
      teacher_samples: samples of the teacher `[n, D]`, n at least 2 D and 4, finite.
      student_samples: samples of the student `[m, D]`, m at least 4.
      teacher_log_probs: log p_t `[n]` of the teacher's samples.
      student_log_probs: log p_s `[n]` of the same samples.
      seed: of the classifier, see `two_sample_auc`.

    Raises:
      ValueError: if a shape or value breaks these rules.
    """
    test = two_sample_auc(teacher_samples, student_samples, seed=seed)
    rows = np.asarray(teacher_samples, np.float64)
    if len(rows) < 2 * rows.shape[1]:
        raise ValueError(
            f"`teacher_samples` must have at least {2 * rows.shape[1]} rows, twice its columns, "
            f"got {len(rows)}."
        )
    gain = float(np.mean(np.asarray(teacher_log_probs, np.float64)) - _mean_normal_log_prob(rows))
    return SamplerComparison(paired_difference(teacher_log_probs, student_log_probs), gain, test)


def sampler_table(results: Sequence[Result], comparisons: Mapping[str, SamplerComparison]) -> Table:
    """Returns a row per student that was compared.

    Args:
      results: results, among them the one named "teacher" and those of the students.
      comparisons: comparisons by name of the student.
    """
    seconds = {r.name: r.speed.to_data_seconds for r in results}
    rows = [
        [
            name,
            f"{each.kl.mean:.3f} ± {2 * each.kl.standard_error:.3f}",
            f"{each.lost:.1%}" if each.is_known else "—",
            f"{each.two_sample.auc:.3f} ± {2 * each.two_sample.standard_error:.3f}",
            f"{seconds['teacher'] / seconds[name]:.1f}",
        ]
        for name, each in comparisons.items()
    ]
    header = ["sampler", "KL", "of the teacher's gain", "AUC", "times as fast"]
    sizes = " or ".join(sorted({f"{r.speed.batch_size:,}" for r in results}))
    return Table(header, rows, note=_NOTE.format(sizes))


def _mean_normal_log_prob(rows: np.ndarray) -> float:
    """Returns the mean log-density of rows under the normal distribution fitted to them.

    The mean of the squared Mahalanobis distances of rows is their number of dimensions.
    """
    dims = rows.shape[1]
    _, log_det = np.linalg.slogdet(np.atleast_2d(np.cov(rows.T, bias=True)))
    return -0.5 * float(dims * (1 + np.log(2 * np.pi)) + log_det)
