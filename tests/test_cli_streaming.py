"""Streaming plans and disturbed mazes through the real command."""

import json

import pytest
from test_cli import dfplan, elsewhere  # noqa: F401  fixtures


def measured(dfplan, *words):  # noqa: F811
    got = dfplan("eval", "maze2d-umaze", *words, "--episodes", 3, "--seed", 90_000, "--json", "e.json")
    assert got.code == 0, got.err
    with open("e.json") as file:
        return json.load(file)


def test_streaming_reaches_goals_that_move_at_a_call_a_decision(dfplan):  # noqa: F811
    words = ["--goal", "random", "--disturb", "move", "--env-args", "max_episode_steps=260"]
    stream = measured(dfplan, *words, "--planner.stream", 10)
    noise = measured(dfplan, *words)
    assert stream["success"] == noise["success"] == 1
    # A decision every 10 env steps, and at once where a goal moved.
    assert 3 <= stream["network_calls_mean"] <= 3 + 260 / 10
    assert noise["network_calls_mean"] >= 4 * 3  # four calls for the first plan, and for each goal


@pytest.mark.parametrize(
    "words, message",
    [
        (["maze2d-umaze", "--disturb", "freeze"], "expected one of push, move, wind, door"),
        (["maze2d-umaze", "--planner.stream", -1], "stream=-1"),
        (["--env", "Hopper-v5", "--checkpoint", "maze2d-large", "--disturb", "push"], "which is for"),
    ],
)
def test_what_cannot_happen_there_is_refused(dfplan, words, message):  # noqa: F811
    got = dfplan("eval", *words)
    assert got.code == 2 and message in got.err, got.err
