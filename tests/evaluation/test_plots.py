"""Tests of the figures."""

import io
import sys
import warnings

import matplotlib.image
import numpy as np
import pytest

from tfp_distill.evaluation import LearningCurve, learning_curves, marginals, pairwise
from tfp_distill.evaluation.figures.curves import Curve, draw_curves
from tfp_distill.evaluation.figures.style import label_at_right, model_colours, new_figure

NAMES = ["teacher", "student", "lkd", "ilkd", "skd"]
LONG_NAMES = [
    "teacher",
    *(f"spline_{a}/{b}" for a in ("4x24", "4x24_rows_2000") for b in ("student", "mixture")),
]


def rows(dims, seed=0):
    return np.random.RandomState(seed).normal(size=(500, dims))


def pixels(figure):
    """Renders a figure and reads it back; a picture that is all of one colour shows nothing."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    assert buffer.getvalue().startswith(b"\x89PNG\r\n\x1a\n")
    buffer.seek(0)
    image = matplotlib.image.imread(buffer)
    assert image.std() > 0.01
    return image


def texts(axes):
    return [text.get_text() for text in axes.texts]


def visible(figure):
    return [axes for axes in figure.axes if axes.axison]


def test_learning_curves():
    curves = {
        name: LearningCurve(range(0, 1000, 100), range(10), np.exp(-np.arange(10.0)) + index)
        for index, name in enumerate(NAMES)
    }
    figure = learning_curves(curves)
    pixels(figure)
    by_step, by_time = figure.axes
    assert by_step.get_xlabel() == "training step"
    assert by_time.get_xlabel() == "training time, seconds"
    assert "nats" in by_step.get_ylabel()
    assert (
        [text.split()[0] for text in texts(by_step)]
        == NAMES
        == [text.split()[0] for text in texts(by_time)]
    )


def test_learning_curves_show_the_end_and_survive_what_is_not_finite():
    nll = np.array([1e6, np.inf, 3.0, np.nan, 2.0, 1.0])
    figure = learning_curves(
        {
            "student": LearningCurve(np.arange(6), 3600 * np.arange(6), nll),
            "broken": LearningCurve([0, 1], [0, 3600], [np.nan, np.inf]),
            "empty": LearningCurve([], [], []),
        }
    )
    pixels(figure)
    assert figure.axes[0].get_ylim()[1] < 10
    assert texts(figure.axes[0]) == ["student 1.000"]
    assert figure.axes[1].get_xlabel() == "training time, hours"


def test_a_curve_that_ends_above_the_axes_leaves_them_room(recwarn):
    values = [11.3498, 11.2238, 11.2241, 11.2291]
    pixels(learning_curves({"teacher": LearningCurve([1, 2, 3, 4], [1, 2, 3, 4], values)}))
    assert not [warning for warning in recwarn if "collapsed" in str(warning.message)]


def test_learning_curves_of_nothing():
    learning_curves({}).savefig(io.BytesIO(), format="png", dpi=40)


def test_learning_curve_rejects_unequal_lengths():
    with pytest.raises(ValueError, match="must have equal lengths, got 2, 1 and 2"):
        LearningCurve([0, 1], [0], [1.0, 2.0])


def test_labels_neither_overlap_nor_leave_the_axes():
    axes = new_figure(4, 3).subplots()
    axes.set_ylim(0, 1)
    ends = [(1.0, y) for y in (0.99, 1.0, 0.98, 0.5, 2.0)]
    label_at_right(axes, NAMES, ends, ["black"] * 5, gap=0.1)
    heights = sorted(text.xyann[1] for text in axes.texts)
    assert np.min(np.diff(heights)) >= 0.1 - 1e-9
    assert 0 <= heights[0] <= heights[-1] <= 1


def test_marginals_show_every_column_and_model():
    figure = marginals(rows(5), {name: rows(5, 1) for name in NAMES}, feature_names="abcde")
    pixels(figure)
    assert [axes.get_xlabel() for axes in visible(figure)] == list("abcde")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["data", *NAMES]


def test_marginals_choose_the_columns_that_are_farthest_from_the_data():
    samples = rows(63, 1)
    samples[:, [7, 40, 62]] += 3
    figure = marginals(rows(63), {"teacher": rows(63, 2), "skd": samples}, max_columns=3)
    pixels(figure)
    assert [axes.get_xlabel() for axes in visible(figure)] == ["x8", "x41", "x63"]
    assert "3 of 63 columns" in figure.get_supxlabel()


def test_marginals_show_what_lies_beyond_the_range_in_the_outermost_bins():
    samples = rows(2)
    samples[:200], samples[200:250], samples[250:300] = 1e6, -1e6, np.nan
    figure = marginals(rows(2), {"skd": samples}, bins=10)
    pixels(figure)
    axes = figure.axes[0]
    data, model = (patch.get_data() for patch in axes.patches)
    of_data, of_model = (s.values * np.diff(s.edges) for s in (data, model))
    assert len(of_data) == len(of_model) == 12
    np.testing.assert_allclose([of_data.sum(), of_model.sum()], [1, 0.9], atol=1e-6)
    np.testing.assert_allclose([of_data[0], of_data[-1]], [0.002] * 2, atol=1e-6)
    np.testing.assert_allclose([of_model[0], of_model[-1]], [0.1, 0.4], atol=0.01)
    lines = sorted(float(line.get_xdata()[0]) for line in axes.lines)
    np.testing.assert_allclose(lines, [data.edges[1], data.edges[-2]])
    assert axes.get_ylim()[1] > model.values[-1]
    assert "beyond the dotted lines" in figure.get_supxlabel()


def test_pairwise_takes_the_strongest_dependence_first():
    data = rows(6)
    data[:, 4] = data[:, 1] + 0.1 * data[:, 4]
    figure = pairwise(data, {name: rows(6, 1) for name in NAMES}, max_pairs=2)
    pixels(figure)
    grid = np.reshape(figure.axes, (2, 6))
    assert [axes.get_title() for axes in grid[0]] == ["data", *NAMES]
    assert (grid[0, 0].get_xlabel(), grid[0, 0].get_ylabel()) == ("x2", "x5")
    assert not {grid[1, 0].get_xlabel(), grid[1, 0].get_ylabel()} & {"x2", "x5"}


def test_pairwise_of_two_columns():
    assert len(pairwise(rows(2), {"teacher": rows(2, 1)}).axes) == 2


def test_pairwise_of_two_rows():
    pixels(pairwise(rows(2)[:2], {"teacher": rows(2, 1)}))


@pytest.mark.parametrize("plot", [marginals, pairwise])
def test_constant_and_broken_columns_are_drawn(plot):
    data, samples = rows(3), rows(3, 1)
    data[:, 0] = 1.0
    samples[:, 1], samples[::2, 2] = np.nan, np.inf
    pixels(plot(data, {"skd": samples}))


@pytest.mark.parametrize("plot", [marginals, pairwise])
def test_rejects_wrong_shapes(plot):
    with pytest.raises(ValueError, match=r"`samples` of 'skd' must have shape \('n', 3\)"):
        plot(rows(3), {"skd": rows(2)})
    with pytest.raises(ValueError, match="`feature_names` must hold 3 names, got 2"):
        plot(rows(3), {"skd": rows(3)}, feature_names=["a", "b"])
    with pytest.raises(ValueError, match="`data` must have shape"):
        plot(np.zeros(3), {})


def test_a_model_has_the_same_colour_everywhere():
    everywhere = model_colours([*NAMES, "mine", "yours"])
    assert len(set(everywhere.values())) == 7
    assert model_colours(["skd"])["skd"] == everywhere["skd"]


def test_pyplot_is_not_involved():
    marginals(rows(2), {})
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_long_names_and_values_beyond_the_axis_leave_room_for_the_axes():
    steps = np.arange(12.0)
    curves = {
        name: Curve(steps, steps, np.exp(-steps) + height)
        for name, height in zip(LONG_NAMES, (0.0, 0.1, 0.2, 0.3, 5.0), strict=True)
    }
    samples = {name: np.random.default_rng(0).normal(size=(100, 3)) for name in LONG_NAMES}
    figures = (
        draw_curves(curves, count="step", figure="nll"),
        marginals(samples["teacher"], samples),
        pairwise(samples["teacher"], samples),
    )
    for figure in figures:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # That the layout was given up, for instance.
            figure.savefig(io.BytesIO())
        assert all(axes.get_position().width > 0.1 for axes in figure.axes)
