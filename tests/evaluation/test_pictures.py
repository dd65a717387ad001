"""Tests of the pictures of flows of images."""

import io

import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import Flow, GlowConfig, TabularGlowConfig
from tfp_distill.evaluation import (
    interpolations,
    mosaic,
    nearest_training_images,
    reconstructions,
    sample_grid,
    temperature_sweep,
)

SHAPE = (8, 8, 1)


def images(rows, seed=0, shape=SHAPE):
    return np.random.RandomState(seed).randint(0, 256, size=(rows, *shape), dtype=np.uint8)


def new_flow(seed=0, shape=SHAPE, **config):
    config = dict(num_levels=1, steps_per_level=1, hidden_channels=2) | config
    flow = Flow(GlowConfig(shape, seed=seed, **config))
    flow.adapt(np.random.RandomState(seed).uniform(size=(16, *shape)))
    return flow


@pytest.fixture(scope="module")
def flow(randomize):
    flow = new_flow(num_levels=2)
    randomize(flow.layers, size=0.05)
    return flow


@pytest.fixture(scope="module")
def other(randomize):
    flow = new_flow(seed=1, num_levels=2)
    randomize(flow.layers, size=0.05, seed=1)
    return flow


def panels(figure):
    """What each of the axes shows, from top to bottom and left to right; pixels are repeated."""
    found = []
    for axes in figure.axes:
        (image,) = axes.get_images()
        found.append(np.asarray(image.get_array()))
    return found


def strips(figure, size=8):
    """The images of each panel, uint8 `[n, 8, 8]`, of the first channel."""
    result = []
    for panel in panels(figure):
        repeat = panel.shape[0] // size
        pixels = panel[::repeat, ::repeat, 0]
        starts = range(0, pixels.shape[1], size + 1)
        result.append(np.stack([pixels[:, start : start + size] for start in starts]))
    return result


def texts(figure):
    return [text.get_text() for text in figure.texts if text.get_text()]


def render(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144)
    buffer.seek(0)
    return matplotlib.image.imread(buffer)


def test_a_mosaic_is_read_as_a_text():
    tiles = np.stack([np.full((3, 2, 1), value, np.uint8) for value in (10, 20, 30, 40, 50)])
    picture = mosaic(tiles, 2, 3)
    assert picture.dtype == np.uint8
    gap = picture[3, 0, 0]
    assert 200 < gap < 255
    expected = np.full((7, 8), gap)
    for index, value in enumerate((10, 20, 30, 40, 50)):
        row, column = divmod(index, 3)
        expected[4 * row : 4 * row + 3, 3 * column : 3 * column + 2] = value
    np.testing.assert_array_equal(picture, np.repeat(expected[..., None], 3, axis=-1))


def test_a_mosaic_of_one_image_is_the_image():
    photo = images(1, shape=(5, 6, 3))
    np.testing.assert_array_equal(mosaic(photo, 1, 1), photo[0])


@pytest.mark.parametrize("channels", [2, 4])
def test_transparent_images_are_on_white(channels):
    colour = images(3, shape=(4, 4, channels - 1))
    opacity = np.zeros((3, 4, 4, 1), np.uint8)
    opacity[0], opacity[1] = 255, 51
    picture = mosaic(np.concatenate([colour, opacity], axis=-1), 1, 3)
    parts = [picture[:, 5 * i : 5 * i + 4] for i in range(3)]
    colour = np.broadcast_to(colour, (3, 4, 4, 3))
    np.testing.assert_array_equal(parts[0], colour[0])
    np.testing.assert_allclose(parts[1], 0.2 * colour[1] + 0.8 * 255, atol=0.5 + 1e-6)
    np.testing.assert_array_equal(parts[2], 255)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((images(2), 1, 1), "`images` must be at most 1 x 1, .* got 2"),
        ((images(2).astype(float), 1, 2), "`images` must be uint8 .* got float64 of shape"),
        ((images(2)[..., 0], 1, 2), r"`images` must be uint8 .* got uint8 of shape \(2, 8, 8\)"),
        ((images(2, shape=(8, 8, 5)), 1, 2), "`images` must be uint8 of shape .* 1 to 4"),
        ((images(2), 0, 2), "`rows` must be an integer of at least 1, got 0"),
        ((images(2), 1, -1), "`columns` must be an integer of at least 1, got -1"),
    ],
)
def test_a_mosaic_of_anything_else_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mosaic(*arguments)


def test_samples_are_those_of_each_flow_and_share_latents(flow, other):
    flows = {"teacher": flow, "student": other, "twin": flow}
    figure = sample_grid(flows, temperatures=(0.5, 1.0), num_samples=3, seed=4)
    found = strips(figure)
    assert len(found) == 6
    for index, temperature in enumerate((0.5, 1.0)):
        for row, model in enumerate(flows.values()):
            x = model.sample(3, temperature=temperature, seed=4)
            expected = model.config.pixel_format.quantize(x)[..., 0]
            np.testing.assert_array_equal(found[3 * index + row], expected)
    labels = ["teacher", "student", "twin"]
    titles = [f"T = {t}, the same latents in each column" for t in ("0.5", "1")]
    assert texts(figure) == [titles[0], *labels, titles[1], *labels]
    again = sample_grid(flows, temperatures=(0.5, 1.0), num_samples=3, seed=5)
    assert np.any(strips(again)[0] != found[0])


def test_a_figure_is_drawn_pixel_by_pixel(flow):
    """What is rendered is what is shown, at the place of its axes, and the rest is white."""
    figure = sample_grid({"teacher": flow}, num_samples=16)
    canvas = render(figure)
    for axes, panel in zip(figure.axes, panels(figure), strict=True):
        (left, bottom), (right, top) = (
            np.round(corner * (canvas.shape[1], canvas.shape[0])).astype(int)
            for corner in axes.get_position().get_points()
        )
        drawn = canvas[canvas.shape[0] - top : canvas.shape[0] - bottom, left:right, :3]
        np.testing.assert_allclose(drawn, panel / 255, atol=1e-3)
    assert canvas.shape[1] == 1620
    np.testing.assert_array_equal(canvas[-4:], 1)


@pytest.mark.parametrize("shape", [(4, 4, 3), (28, 28, 1), (32, 32, 3), (64, 64, 3), (4, 256, 1)])
def test_every_shape_fits(shape):
    flow = new_flow(shape=shape)
    figure = sample_grid({"a model with quite a long name": flow}, temperatures=[1.0])
    points = np.concatenate([axes.get_position().get_points() for axes in figure.axes])
    assert np.all((points >= 0) & (points <= 1))
    figure.draw_without_rendering()
    for text in figure.texts:
        box = text.get_window_extent().transformed(figure.transFigure.inverted())
        assert box.x0 >= 0
        assert box.x1 <= 1
    figure.savefig(io.BytesIO(), format="png", dpi=144)


def test_many_samples_go_on_below(flow, other):
    figure = sample_grid({"teacher": flow, "lkd": other}, temperatures=[0.7], num_samples=20)
    assert [len(strip) for strip in strips(figure)] == [16, 16, 4, 4]
    samples = flow.sample(20, temperature=0.7, seed=0)
    expected = flow.config.pixel_format.quantize(samples)[..., 0]
    found = strips(figure)
    np.testing.assert_array_equal(np.concatenate([found[0], found[2]]), expected)
    assert len([text for text in texts(figure) if text.startswith("T = ")]) == 1


def test_a_sweep_scales_the_same_latents(flow, other):
    flows = {"teacher": flow, "student": other}
    temperatures = (0, 0.5, 1)
    figure = temperature_sweep(flows, temperatures=temperatures, num_samples=2, seed=3)
    found = iter(strips(figure))
    for model in flows.values():
        z = model.to_latent(model.sample(2, seed=3))
        for latent in z:
            x = model.to_data(tf.stack([t * latent for t in temperatures]))
            expected = model.config.pixel_format.quantize(x)[..., 0].numpy().astype(int)
            np.testing.assert_allclose(next(found), expected, atol=1)
    assert texts(figure)[1:7] == ["T = 0", "T = 0.5", "T = 1"] * 2


def test_reconstructions_are_the_images(flow, other):
    data = images(5)
    figure = reconstructions({"teacher": flow, "student": other}, data)
    *own, data_again, shared = strips(figure)
    for strip in (*own, data_again):
        np.testing.assert_array_equal(strip, data[..., 0])
    expected = other.to_data(flow.to_latent((data + 0.5) / 256))
    expected = other.config.pixel_format.quantize(expected)[..., 0].numpy().astype(int)
    np.testing.assert_allclose(shared, expected, atol=1)
    assert np.any(shared != data[..., 0])


def test_models_that_share_latents_decode_those_of_the_teacher(flow):
    data = images(4)
    figure = reconstructions({"teacher": flow, "student": flow}, data)
    np.testing.assert_array_equal(strips(figure)[-1], data[..., 0])
    notes = [text for text in texts(figure) if "error" in text]
    assert [note.split(" error ")[0] for note in notes] == ["largest", "largest", "mean"]
    assert all(float(note.split(" error ")[1]) < 1e-4 for note in notes)


def test_reconstructions_of_one_model_have_one_section(flow):
    figure = reconstructions({"teacher": flow}, images(2))
    assert len(strips(figure)) == 2


def test_interpolations_start_and_end_with_data(flow, other):
    data = images(6)
    figure = interpolations({"teacher": flow, "student": other}, data[:3], data[3:], num=5)
    found = strips(figure)
    assert [len(strip) for strip in found] == [5] * 6
    # Three ways of five images fit into a line.
    for index, strip in enumerate(found):
        np.testing.assert_array_equal(strip[0], data[index % 3, ..., 0])
        np.testing.assert_array_equal(strip[-1], data[3 + index % 3, ..., 0])
        assert np.any(strip[2] != strip[0])


def test_nearest_training_images_are_found(flow, other):
    train = images(3000, seed=1)
    flows = {"teacher": flow, "student": other}
    planted = {}
    for name, model in flows.items():
        x = model.sample(3, temperature=0.7, seed=2)
        planted[name] = model.config.pixel_format.quantize(x).numpy()
    close = planted["student"] ^ np.uint8(1)
    places = [5, 1023, 1024, 2047, 2500, 2999]
    train[places] = np.concatenate([planted["teacher"], close])
    figure = nearest_training_images(flows, train, num_samples=3, seed=2)
    found = strips(figure)
    np.testing.assert_array_equal(found[0], planted["teacher"][..., 0])
    np.testing.assert_array_equal(found[1], planted["teacher"][..., 0])
    np.testing.assert_array_equal(found[2], planted["student"][..., 0])
    np.testing.assert_array_equal(found[3], close[..., 0])
    notes = [text for text in texts(figure) if text.startswith("median")]
    assert notes == ["median distance 0", "median distance 1"]
    assert "of 3,000 training images" in texts(figure)[0]


def test_padding_and_bits_that_are_not_modelled_are_not_shown():
    flow = new_flow(shape=(12, 12, 1), padding=2, num_bits=3)
    data = images(3)
    pixel_format = flow.config.pixel_format
    seen = pixel_format.quantize(pixel_format.midpoints(data))[..., 0]
    for strip in strips(reconstructions({"teacher": flow}, data)):
        np.testing.assert_array_equal(strip, seen)
    x = flow.sample(1, temperature=0.7, seed=0)
    byte = pixel_format.quantize(x).numpy()
    train = np.concatenate([data, (byte & np.uint8(0b11100000)) | np.uint8(5)])
    figure = nearest_training_images({"teacher": flow}, train, num_samples=1)
    np.testing.assert_array_equal(*strips(figure))
    assert "median distance 0" in texts(figure)


def test_what_is_not_finite_is_drawn():
    flow = new_flow()
    flow.trainable_variables[0].assign(np.full(flow.trainable_variables[0].shape, np.nan))
    figure = sample_grid({"teacher": flow}, num_samples=2)
    render(figure)
    assert "2 not finite" in texts(figure)
    figure = reconstructions({"teacher": flow, "student": flow}, images(2))
    assert "largest error nan, 2 not finite" in texts(figure)
    render(nearest_training_images({"teacher": flow}, images(5), num_samples=2))


DRAW = {
    sample_grid: (),
    temperature_sweep: (),
    reconstructions: (images(2),),
    interpolations: (images(2), images(2)),
    nearest_training_images: (images(2),),
}


@pytest.mark.parametrize("draw", DRAW)
def test_flows_that_cannot_be_compared_are_refused(draw, flow):
    wrong = {
        "`flows` must hold at least one flow": {},
        r"must be flows of images, got 'b' of shape \(3,\)": {
            "a": flow,
            "b": Flow(TabularGlowConfig(dims=3)),
        },
        r"the `event_shape` of 'a', \(8, 8, 1\), got \(8, 8, 2\) of 'b'": {
            "a": flow,
            "b": new_flow(shape=(8, 8, 2)),
        },
        "the `pixel_format` of 'a', .*, got .*num_bits=5.* of 'b'": {
            "a": flow,
            "b": new_flow(num_bits=5),
        },
    }
    for message, flows in wrong.items():
        with pytest.raises(ValueError, match=message):
            draw(flows, *DRAW[draw])


@pytest.mark.parametrize(
    ("draw", "arguments", "options", "message"),
    [
        (sample_grid, (), {"temperatures": ()}, "`temperatures` must hold at least one"),
        (sample_grid, (), {"temperatures": (0.7, -1)}, "`temperatures` must be .* got -1"),
        (sample_grid, (), {"num_samples": 0}, "`num_samples` must be .* at least 1, got 0"),
        (sample_grid, (), {"seed": -1}, "`seed` must be .* at least 0, got -1"),
        (temperature_sweep, (), {"temperatures": (np.nan,)}, "`temperatures` must be .* got nan"),
        (temperature_sweep, (), {"num_samples": 0}, "`num_samples` must be .* got 0"),
        (reconstructions, (images(2) / 256,), {}, "`images` must be uint8 .* got float64"),
        (reconstructions, (images(0),), {}, r"`images` must be .*, n at least 1, got .*\(0, 8"),
        (interpolations, (images(2), images(3)), {}, "`images_b` must hold 2 images .* got 3"),
        (
            interpolations,
            (images(2), images(2, shape=(8, 4, 1))),
            {},
            r"`images_b` must be uint8 of shape \('n', 8, 8, 1\).* got uint8 of shape \(2, 8, 4",
        ),
        (interpolations, (images(2), images(2)), {"num": 1}, "`num` must be .* at least 2, got 1"),
        (nearest_training_images, (images(2)[0],), {}, "`images_train` must be uint8"),
        (nearest_training_images, (images(2),), {"temperature": -1.0}, "`temperature` must be"),
        (nearest_training_images, (images(2),), {"num_samples": 0}, "`num_samples` must be"),
    ],
)
def test_illegal_arguments_are_named(draw, arguments, options, message, flow):
    with pytest.raises(ValueError, match=message):
        draw({"teacher": flow}, *arguments, **options)
