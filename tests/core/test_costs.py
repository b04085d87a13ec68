import math

import pytest
import torch

from dfplan import costs
from dfplan.costs import Ball, Box, Field, Polygon, keep_in, keep_out

SQUARE = Polygon(((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)))
HOOK = Polygon(((0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (1.0, 2.0), (1.0, 1.0), (0.0, 1.0)))
SHAPES = {
    "ball": Ball((0.3, -0.2), 0.7),
    "box": Box((-0.5, -0.2), (0.8, 0.4)),
    "polygon": HOOK,
    "field": Field(lambda p: (p - 0.1).abs().sum(-1) - 0.6),
    "outside": costs.outside(Ball((0.0, 0.0), 1.0)),
}


def paths(count=6, steps=5, seed=0):
    return torch.randn(count, steps, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def channels(path):
    return dict(zip("xy", path.unbind(-1), strict=True))


def value(cost, path, mask=None):
    return cost(channels(path), torch.ones(path.shape[:2], dtype=torch.bool) if mask is None else mask)


@pytest.mark.parametrize(
    "shape, points, expected",
    [
        (Ball((1.0, 0.0), 0.5), [[1.0, 0.0], [1.0, 2.0]], [-0.5, 1.5]),
        (Box((0.0, 0.0), (2.0, 1.0)), [[1.0, 0.25], [3.0, 2.0], [1.0, -2.0]], [-0.25, math.sqrt(2), 2.0]),
        (HOOK, [[1.5, 1.5], [0.5, 1.5], [0.5, 0.5], [3.0, 0.5]], [-0.5, 0.5, -0.5, 1.0]),
        (costs.outside(Ball((0.0, 0.0), 1.0)), [[0.0, 0.0], [3.0, 4.0]], [1.0, -4.0]),
    ],
)
def test_signed_distances_by_hand(shape, points, expected):
    torch.testing.assert_close(
        shape.distance(torch.tensor(points)), torch.tensor(expected), rtol=0, atol=1e-4
    )


def test_a_polygon_that_is_a_box_has_its_distance():
    points = 2 * paths(1, 500)
    torch.testing.assert_close(
        SQUARE.distance(points), Box((-1.0, -1.0), (1.0, 1.0)).distance(points), rtol=0, atol=1e-4
    )


def test_a_ball_is_looked_at_along_the_whole_line_between_two_steps():
    ball, path = SHAPES["ball"], paths(200, 2)
    fine = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    dense = ball.distance(torch.lerp(path[:, :1], path[:, 1:], fine)).amin(-1)
    torch.testing.assert_close(ball.along(path)[:, 0], dense, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["ball", "box", "polygon", "field"])
def test_what_is_jumped_over_between_two_steps_costs(name):
    """Both ends are free and the middle is not: steps alone would see nothing."""
    shape, path = SHAPES[name], torch.tensor([[[-3.0, 0.1], [3.0, 0.1]]])
    assert (shape.distance(path) > 0).all() and value(keep_out([shape]), path).item() > 1e-3


@pytest.mark.parametrize(
    "cost",
    [
        *(keep_out([shape], 0.2) for shape in SHAPES.values()),
        keep_in(Ball((0.0, 0.0), 1.0), 0.1),
        costs.speed(["x", "y"], 3.0, 0.1),
        costs.actions(["x"]),
        costs.goal({"x": 1.0, "y": -1.0}, 0.5),
        costs.total((0.5, costs.smoothness(["x", "y"])), (2.0, costs.limits({"x": -0.5}, {"y": 0.3}))),
    ],
)
def test_gradients_are_finite_differences(cost):
    path = paths().requires_grad_()
    assert value(cost, path).max() > 1e-2
    assert torch.autograd.gradcheck(lambda p: value(cost, p), path, eps=1e-6, atol=1e-4)


def test_masked_steps_cost_nothing_and_a_single_step_counts():
    cost, path = keep_out([Ball((0.0, 0.0), 1.0)]), torch.zeros(1, 3, 2)
    mask = torch.tensor([[True, True, False]])
    assert value(cost, path).item() == pytest.approx(2, abs=1e-3)
    assert value(cost, path, mask).item() == pytest.approx(1, abs=1e-3)
    assert value(cost, path[:, :1]).item() == pytest.approx(1, abs=1e-3)


def test_speed_by_hand():
    path = torch.tensor([[[0.0, 0.0], [0.3, 0.4], [0.3, 0.4]]])
    assert value(costs.speed(["x", "y"], 4.0, 0.1), path).item() == pytest.approx(1.0, abs=1e-3)


def test_shapes_can_be_written():
    path = paths().float()
    for text, shape in (
        ("box(low={'x': -0.5, 'y': -0.2}, high={'x': 0.8, 'y': 0.4})", SHAPES["box"]),
        ("polygon([[0, 0], [2, 0], [2, 2], [1, 2], [1, 1], [0, 1]])", HOOK),
        ("obstacle(center={'x': 0.3, 'y': -0.2}, radius=0.7)", SHAPES["ball"]),
    ):
        torch.testing.assert_close(value(costs.written(text), path), value(keep_out([shape]), path))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Ball((0.0, 0.0), -1.0), "radius -1"),
        (lambda: Ball((0.0,), 1.0), "a value for each"),
        (lambda: Box((1.0, 0.0), (0.0, 1.0)), "low below high"),
        (lambda: Polygon(((0.0, 0.0), (1.0, 0.0))), "3 or more"),
        (lambda: costs.box({"x": 0.0}, {"y": 1.0}), "the same for low and high"),
    ],
)
def test_shapes_without_an_inside_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
