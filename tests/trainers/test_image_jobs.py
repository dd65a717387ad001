"""Tests of the whole job on images."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import app
from jobs import copy_of, run

from tfp_distill import load_flow
from tfp_distill.evaluation import bits_per_dim, mosaic
from tfp_distill.evaluation.results import read_results_json
from tfp_distill.runs import stages
from tfp_distill.runs.fitting.training_record import read_record
from tfp_distill.runs.recipe import Recipe
from tfp_distill.runs.run_directory import RunDirectory
from trainers import compress, evaluate

pytestmark = pytest.mark.slow

TINY = (
    "--data=digits",
    *("--teacher_levels=1", "--teacher_depth=2", "--teacher_width=4"),
    *("--student_levels=1", "--student_depth=1", "--student_width=4"),
    *("--teacher_training_steps=4", "--student_training_steps=4", "--report_steps=2"),
    *("--batch_size=16", "--students=student,ilkd,skd", "--random_flip"),
)
FRECHET = {"samples, T = 1", "samples, T = 0.7", "half-way, T = 1", "half-way, T = 0.7"}


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    """A file with a feature extractor of 3 features."""
    images = keras.Input([8, 8, 3])
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    path = tmp_path_factory.mktemp("extractors") / "mean_colour.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def job(tmp_path_factory, extractor):
    """The run directory of the whole job, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "digits"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        flags = (*TINY, f"--feature_extractor={extractor}", "--frechet_images=50")
        return run_dir, run(compress, run_dir, *flags)


def test_results_are_in_bits_and_frechet_distances(job):
    run_dir, output = job
    results, settings = read_results_json(run_dir / "results.json")
    assert [result.name for result in results] == ["teacher", "student", "ilkd", "skd"]
    for result in results:
        expected = bits_per_dim(result.likelihood.mean, 64, bins=16)
        assert result.bits_per_dim == pytest.approx(expected, rel=1e-9)
        assert f"{result.bits_per_dim:.3f} ± {2 * result.bits_per_dim_error:.3f}" in output
        assert set(result.frechet) == FRECHET
        for distance in result.frechet.values():
            assert (distance.num_samples, distance.num_reference) == (50, 50)
            assert distance.extractor == "mean_colour"
            assert f"{distance.value:.2f}" in output
        assert result.round_trip_error < 1e-4
        assert result.skipped_steps == 0
    assert settings["data"] == (
        "digits, 1,437 training, 180 validation and 180 test examples of 8x8x1"
    )


def test_the_report_shows_pictures(job):
    report = (job[0] / "report.html").read_text()
    for heading in ("Samples", "Reconstructions", "Interpolations", "Nearest training images"):
        assert f"<h2>{heading}</h2>" in report
    assert "50 test images, of 50 samples" in report
    assert "Marginals" not in report


def test_training_shows_bits_and_leaves_pictures(job):
    run_dir, output = job
    assert "validation nll" in output and "bits per dimension" in output
    row = read_record(run_dir / "ilkd").history[0]
    assert row["val_bits_per_dim"] == pytest.approx(bits_per_dim(-row["val_nll"], 64, bins=16))
    assert {"bits_per_dim", "intermediate_latent_loss", "val_latent_distance"} <= set(row)
    for name in ("teacher", "student", "ilkd", "skd"):
        pictures = sorted(path.name for path in (run_dir / name / "pictures").glob("*.png"))
        assert pictures == ["epoch_0001.png", "epoch_0002.png"]


def test_the_exported_model_takes_and_returns_bytes(job):
    run_dir, output = job
    signatures = tf.saved_model.load(str(run_dir / "saved_model")).signatures
    images = RunDirectory(run_dir, Recipe(data="digits")).data.test[:5]
    found = signatures["reconstruct"](x=tf.constant(images))["x"]
    np.testing.assert_array_equal(found, np.round((images >> 4) * 17.0))


def test_another_evaluation_may_have_other_settings(job, extractor, tmp_path, monkeypatch):
    run_dir = copy_of(job[0], tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    output = run(evaluate, run_dir, "--feature_extractor=", "--evaluation_draws=3")
    results, _ = read_results_json(run_dir / "results.json")
    assert all(result.frechet == {} for result in results)
    assert "FD" not in output
    assert Recipe.read(run_dir / "recipe.json").feature_extractor == str(extractor)


def test_an_interrupted_job_ends_with_the_same_weights(job, tmp_path):
    run_dir, _ = job
    recipe = Recipe.read(run_dir / "recipe.json")
    half = tmp_path / "half"
    half.mkdir()
    assert recipe.random_flip

    class Stop(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.step == 2:
                raise InterruptedError

    run_directory = RunDirectory(half, recipe)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(InterruptedError):
        patched.setattr(stages, "SampleGrid", lambda directory: Stop())
        stages.train_teacher(run_directory)
    assert read_record(half / "teacher").steps == 2
    stages.train_teacher(run_directory)
    resumed, whole = (load_flow(path / "teacher" / "flow.keras") for path in (half, run_dir))
    for a, b in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--teacher_architecture=maf"], "`teacher_architecture` must be glow for images"),
        (["--student_levels=4"], "`image_shape` must have a height and width divisible by 16"),
        (["--num_bits=9"], "`num_bits` must be an integer from 1 to 8, got 9"),
        (["--feature_extractor=nowhere.keras"], "nowhere.keras"),
        (["--feature_extractor=EXTRACTOR"], "`frechet_images` must be at most the 180 test images"),
        (["--data=embedded", "--padding=2"], "`padding` must be 0 where `source` is no image"),
        (
            ["--data=embedded", "--norandom_flip", "--feature_extractor=inception"],
            "`feature_extractor` must be empty where `data` is no images",
        ),
        (["--data=embedded"], "`random_flip` must be False where `data` is no images"),
    ],
)
def test_errors_come_before_any_work(flags, message, extractor, tmp_path):
    flags = [flag.replace("EXTRACTOR", str(extractor)) for flag in flags]
    with pytest.raises(app.UsageError, match=message):
        run(compress, tmp_path / "run", *TINY, *flags)
    assert not (tmp_path / "run").exists()


def test_pictures_of_a_run_are_mosaics_of_its_format(job):
    run_dir, _ = job
    path = run_dir / "student" / "pictures" / "epoch_0001.png"
    shown = tf.io.decode_png(path.read_bytes()).numpy()
    assert shown.shape == mosaic(np.zeros([64, 8, 8, 1], np.uint8), 8, 8).shape
