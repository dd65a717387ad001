"""Evaluation: likelihood, speed, plots, and the report that holds all of it."""

from tfp_distill.evaluation.comparisons import ahead_of_student, gap_closed, gap_closed_error
from tfp_distill.evaluation.figures.fronts import fronts
from tfp_distill.evaluation.figures.learning_curves import LearningCurve, learning_curves
from tfp_distill.evaluation.figures.mosaic import mosaic
from tfp_distill.evaluation.figures.pictures import (
    interpolations,
    nearest_training_images,
    reconstructions,
    sample_grid,
    temperature_sweep,
)
from tfp_distill.evaluation.figures.plots import marginals, pairwise
from tfp_distill.evaluation.flow_result import Result, evaluate_flow
from tfp_distill.evaluation.health import Health
from tfp_distill.evaluation.images.feature_statistics import (
    FeatureStatistics,
    image_statistics,
    reference_statistics,
)
from tfp_distill.evaluation.images.features import FeatureExtractor
from tfp_distill.evaluation.images.frechet import (
    FrechetDistance,
    check_comparable,
    frechet_distance,
)
from tfp_distill.evaluation.images.image_streams import (
    ImageStream,
    interpolated_images,
    sampled_images,
)
from tfp_distill.evaluation.images.sample_grids import SampleGrid
from tfp_distill.evaluation.likelihood import (
    Likelihood,
    evaluate_likelihood,
    evaluation_batch_size,
    latent_round_trip_error,
    round_trip_error,
)
from tfp_distill.evaluation.paired import (
    PairedDifference,
    error_of_gap_closed,
    paired_difference,
)
from tfp_distill.evaluation.parts.part_curves import part_curves
from tfp_distill.evaluation.parts.part_history import (
    EpochRecord,
    PartHistory,
    PhaseSummary,
    phase_summaries,
)
from tfp_distill.evaluation.parts.part_tables import phase_table, training_table
from tfp_distill.evaluation.report import write_report
from tfp_distill.evaluation.results import read_results_json, write_results_json
from tfp_distill.evaluation.samples.sample_quality import DataRange, SampleQuality, sample_quality
from tfp_distill.evaluation.samples.sampler import (
    SamplerComparison,
    compare_sampler,
    sampler_table,
)
from tfp_distill.evaluation.samples.two_sample import TwoSampleTest, two_sample_auc
from tfp_distill.evaluation.speed import Speed, measure_speed, measure_speeds
from tfp_distill.evaluation.table import format_table
from tfp_distill.evaluation.text_table import Table
from tfp_distill.pixels import bits_per_dim

__all__ = [
    "ImageStream",
    "DataRange",
    "EpochRecord",
    "FeatureExtractor",
    "FeatureStatistics",
    "FrechetDistance",
    "Health",
    "LearningCurve",
    "Likelihood",
    "PairedDifference",
    "PartHistory",
    "PhaseSummary",
    "Result",
    "SampleGrid",
    "SampleQuality",
    "SamplerComparison",
    "Speed",
    "Table",
    "TwoSampleTest",
    "ahead_of_student",
    "bits_per_dim",
    "check_comparable",
    "compare_sampler",
    "error_of_gap_closed",
    "evaluate_flow",
    "evaluate_likelihood",
    "evaluation_batch_size",
    "format_table",
    "frechet_distance",
    "fronts",
    "gap_closed",
    "gap_closed_error",
    "image_statistics",
    "interpolated_images",
    "interpolations",
    "latent_round_trip_error",
    "learning_curves",
    "marginals",
    "measure_speed",
    "measure_speeds",
    "mosaic",
    "nearest_training_images",
    "paired_difference",
    "pairwise",
    "part_curves",
    "phase_summaries",
    "phase_table",
    "read_results_json",
    "reconstructions",
    "reference_statistics",
    "round_trip_error",
    "sample_grid",
    "sample_quality",
    "sampled_images",
    "sampler_table",
    "temperature_sweep",
    "training_table",
    "two_sample_auc",
    "write_report",
    "write_results_json",
]
