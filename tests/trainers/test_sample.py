"""Tests of the samples and exports of images; those of rows are in test_jobs.py."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from absl import app
from jobs import run

from tfp_distill import Flow, GlowConfig, MAFConfig, TabularGlowConfig
from tfp_distill.columns import Columns
from tfp_distill.data import load
from tfp_distill.evaluation import sampled_images
from tfp_distill.runs.conditions import conditions_of_samples
from tfp_distill.runs.outputs import write_row_samples
from tfp_distill.runs.recipe import Recipe
from trainers import export, sample

pytestmark = pytest.mark.slow

IMAGES = GlowConfig((12, 12, 1), num_levels=2, steps_per_level=1, hidden_channels=4, padding=2)
ROWS = TabularGlowConfig(2, num_steps=1, hidden_units=4, num_hidden_layers=1)


def _make_run(path, config, data):
    """Makes a run directory with a student that was not trained, and returns the student."""
    flow = Flow(config)
    flow.adapt(np.random.RandomState(0).uniform(size=(64, *config.event_shape)))
    (path / "student").mkdir(parents=True)
    flow.save(path / "student" / "flow.keras")
    Recipe(data=data).write(path / "recipe.json")
    return flow


@pytest.fixture(scope="module")
def image_run(tmp_path_factory):
    """A run directory of images, whose data is not there any more, and its student."""
    path = tmp_path_factory.mktemp("runs") / "images"
    return path, _make_run(path, IMAGES, "gone.npz")


@pytest.fixture(scope="module")
def row_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "rows"
    return path, _make_run(path, ROWS, "gone.csv")


def _pictures(flow, number, **options):
    return np.concatenate(list(sampled_images(flow, number, **options)))


def test_samples_of_images_are_bytes(image_run, tmp_path):
    run_dir, flow = image_run
    path = tmp_path / "made" / "mine.npz"
    arguments = ("--num_samples=7", "--sample_seed=3", "--sample_temperature=0.7")
    output = run(sample, run_dir, f"--output={path}", *arguments)
    assert output == f"7 samples of student: {path}\n"
    with np.load(path) as arrays:
        assert list(arrays) == ["images"]
        images = arrays["images"]
        assert (images.dtype, images.shape) == (np.uint8, (7, 8, 8, 1))
        np.testing.assert_array_equal(images, _pictures(flow, 7, temperature=0.7, seed=3))


def test_samples_of_images_are_a_picture(image_run, tmp_path):
    run_dir, flow = image_run
    run(sample, run_dir, f"--output={tmp_path / 'mine.png'}", "--num_samples=7", "--sample_seed=3")
    grid = tf.io.decode_png((tmp_path / "mine.png").read_bytes()).numpy()
    assert grid.shape == (3 * 9 - 1, 3 * 9 - 1, 3)  # 3 x 3 images with gaps of a pixel.
    expected = _pictures(flow, 7, seed=3)
    for index in range(7):
        row, column = (9 * place for place in divmod(index, 3))
        cell = grid[row : row + 8, column : column + 8]
        np.testing.assert_array_equal(cell, expected[index].repeat(3, axis=-1))


def test_the_default_file_depends_on_the_data(image_run, tmp_path, monkeypatch):
    run_dir, _ = image_run
    monkeypatch.chdir(tmp_path)
    assert run(sample, run_dir, "--num_samples=2") == "2 samples of student: samples.npz\n"
    assert [path.name for path in tmp_path.iterdir()] == ["samples.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=a.csv"], "`output` must end in one of .npz, .png for images, got a.csv"),
        (["--output="], "`output` must end in one of .npz, .png for images, got "),
    ],
)
def test_what_does_not_fit_images_is_refused(image_run, tmp_path, monkeypatch, arguments, message):
    run_dir, _ = image_run
    monkeypatch.chdir(tmp_path)
    with pytest.raises(app.UsageError, match=message):
        run(sample, run_dir, *arguments)
    assert not list(tmp_path.iterdir())


def test_formats_of_images_are_refused_for_rows(row_run, tmp_path):
    run_dir, _ = row_run
    with pytest.raises(app.UsageError, match="`output` must end in one of .csv, .npy, .parquet, g"):
        run(sample, run_dir, f"--output={tmp_path / 'a.png'}")
    assert not list(tmp_path.iterdir())


def _warnings(path, capsys, mean, scale):
    """Samples a flow, nearly a Gaussian of these moments, of standard normal data."""
    path.mkdir()
    np.save(path / "rows.npy", np.random.RandomState(0).normal(size=(5000, 2)))
    flow = Flow(ROWS)
    flow.standardize.set_statistics(np.full(2, mean), np.full(2, scale))
    (path / "run" / "student").mkdir(parents=True)
    flow.save(path / "run" / "student" / "flow.keras")
    Recipe(data=str(path / "rows.npy"), batch_size=64).write(path / "run" / "recipe.json")
    run(sample, path / "run", f"--output={path / 'samples.npy'}")
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:")]


def test_rows_that_lie_as_the_data_do_need_no_warning(tmp_path, capsys):
    assert _warnings(tmp_path / "a", capsys, 0.0, 1.0) == []


def test_a_line_warns_of_rows_outside_the_data(tmp_path, capsys):
    (line,) = _warnings(tmp_path / "a", capsys, 0.0, 10.0)
    assert line.startswith("warning: of 1,000 samples of student ")
    assert "% are outside the range of the training data in some column (of the test" in line
    assert "standard deviations from its column's mean" in line and "finite" not in line


def test_the_same_line_warns_of_rows_that_are_not_finite(tmp_path, capsys):
    (line,) = _warnings(tmp_path / "a", capsys, 3e38, 1e38)
    samples = np.load(tmp_path / "a" / "samples.npy")
    number = np.count_nonzero(~np.isfinite(samples).all(axis=1))
    assert 0 < number < 1000
    assert f"student {number:,} are not finite and 100.0% are outside" in line


@pytest.mark.parametrize(
    ("arguments", "dtype", "shape"),
    [
        ([], tf.uint8, (8, 8, 1)),
        (["--pixels=uint8"], tf.uint8, (8, 8, 1)),
        (["--pixels=float"], tf.float32, (12, 12, 1)),
    ],
)
def test_images_are_exported_as_pictures_or_numbers(image_run, arguments, dtype, shape):
    run_dir, _ = image_run
    output = run(export, run_dir, *arguments)
    assert output == f"student is exported as a SavedModel: {run_dir / 'saved_model'}\n"
    signatures = tf.saved_model.load(str(run_dir / "saved_model")).signatures
    spec = signatures["reconstruct"].structured_outputs["x"]
    assert (spec.dtype, tuple(spec.shape[1:])) == (dtype, shape)


def test_rows_are_no_pictures(row_run):
    run_dir, flow = row_run
    with pytest.raises(app.UsageError, match="`pixels` must be .float. for .*, got .uint8."):
        run(export, run_dir, "--pixels=uint8")
    assert not (run_dir / "saved_model").exists()
    output = run(export, run_dir, "--litert=float32")
    path = run_dir / "flow.tflite"
    assert output.splitlines()[1] == f"student is exported as a LiteRT model: {path}"
    assert path.read_bytes()[4:8] == b"TFL3"
    x = tf.constant([[0.1, 0.2]])
    model = tf.saved_model.load(str(run_dir / "saved_model"))
    exported = model.signatures["log_prob"](x=x)["log_prob"]
    np.testing.assert_allclose(exported, flow.log_prob(x), rtol=1e-5)


def test_rows_are_written_with_their_conditions_and_integers_as_integers(tmp_path):
    random = np.random.RandomState(0)
    table = pd.DataFrame(random.normal(size=(200, 3)), columns=["level", "number", "group"])
    table["number"] = random.poisson(30, size=200)
    table["group"] = np.arange(200) % 7 + 0.5
    table.to_csv(tmp_path / "table.csv", index=False)
    data = load(tmp_path / "table.csv", condition_columns=["group"])
    assert data.domain.columns == Columns(("continuous", "integer"))
    flow = Flow(
        MAFConfig(2, num_steps=1, hidden_units=4, condition_dims=1, columns=data.domain.columns)
    )
    flow.adapt(data.train, data.train_condition)
    condition = conditions_of_samples([], data, 50)
    for name in ("samples.csv", "samples.parquet", "samples.npy"):
        options = dict(name="flow", temperature=1.0, seed=3)
        write_row_samples(tmp_path / name, flow, data, 50, condition, **options)
    samples = pd.read_csv(tmp_path / "samples.csv")
    assert list(samples) == ["level", "number", "group"]
    assert samples["number"].dtype == np.int64 and samples["number"].nunique() > 3
    np.testing.assert_allclose(samples["group"], np.resize(data.test_condition[:, 0], 50))
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "samples.parquet"), samples, check_dtype=False
    )
    np.testing.assert_allclose(np.load(tmp_path / "samples.npy"), samples, rtol=1e-5)
