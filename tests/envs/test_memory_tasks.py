"""Tasks that need memory: that they need it, what disturbs them, who can do them, and what demonstrations say."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import dfplan.envs as envs
from dfplan import cli
from dfplan.cli.data import Made
from dfplan.cli.data import data as data_command
from dfplan.cli.eval_options import Actor, Episodes, Place
from dfplan.cli.evaluate import evaluate
from dfplan.data import load
from dfplan.envs import memory
from dfplan.envs.memory import TASKS, PlanarEnv
from dfplan.envs.memory.remember_color import TOUCH
from dfplan.envs.memory.take_it_back import BACK, TABLE
from dfplan.envs.memory.tmaze import CELL, SHOWN, WIDE

SHORT = {"tmaze": {"length": 40}}
ANSWERS = {"tmaze": ("cue", (-1, 1)), "remember-color-5": ("color", ("red", "magenta"))}


def make(task: str, **kwargs: Any) -> PlanarEnv:
    env = envs.make(task, **{**SHORT.get(task, {}), **kwargs}).unwrapped
    assert isinstance(env, PlanarEnv)
    return env


def drive(
    env: PlanarEnv, seed: int, options: dict[str, Any] | None = None
) -> tuple[Any, Any, dict[str, Any]]:
    """Observations, actions, and info at the end, of an episode of the expert."""
    observation, _ = env.reset(seed=seed, options=options)
    driver, seen, done, over = env.make_expert(seed), [observation], [], False
    while not over:
        done.append(driver.act())
        observation, _, terminated, truncated, info = env.step(done[-1])
        seen.append(observation)
        over = terminated or truncated
    return np.array(seen), np.array(done), info


def repeat(env: PlanarEnv, seed: int, actions: Any, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
    """Observations and infos under given actions, to the end of the episode or of the actions."""
    observation, info = env.reset(seed=seed, options=options)
    seen, infos = [observation], [info]
    for action in actions:
        observation, _, terminated, truncated, info = env.step(action)
        seen.append(observation)
        infos.append(info)
        if terminated or truncated:
            break
    return np.array(seen), infos


@pytest.mark.parametrize("task", TASKS)
def test_gymnasium_contract(task: str) -> None:
    env = gym.make(envs.MEMORY_IDS[task], render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*A Box observation space m.*imum value is.*infinity.*")
        check_env(env.unwrapped)
    assert env.unwrapped.render_mode == "rgb_array"
    env = make(task)
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(np.zeros(len(env.actions)))
    with pytest.raises(ValueError, match="render_mode=None"):
        env.render()


def test_pictures_show_what_matters() -> None:
    for task in TASKS:
        env = make(task, render_mode="rgb_array")
        env.reset(seed=0)
        first = env.render()
        for _ in range(15):
            env.step(np.full(len(env.actions), 0.3))
        assert first.shape == (240, 240, 3) and first.dtype == np.uint8 and (env.render() != first).any()


def test_lazy_names() -> None:
    assert all(hasattr(memory, name) for name in memory.__all__)
    assert envs.MEMORY_IDS["remember-color-9"] == "dfplan/RememberColor9-v1"


@pytest.mark.parametrize("task", TASKS)
def test_sensors_name_every_column_once(task: str) -> None:
    env = make(task)
    observation, _ = env.reset(seed=0)
    ends = [part.stop for part in env.sensors.values()]
    assert [part.start for part in env.sensors.values()] == [0, *ends[:-1]]
    assert ends[-1] == len(observation) == len(env.units) == len(set(env.channel_names))
    assert not set(env.channel_names) & set(env.actions)


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_episode(task: str) -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (40, len(make(task).actions)))
    one, other, third = (repeat(make(task), seed, actions)[0] for seed in (3, 3, 4))
    assert (one == other).all() and (one[0] != third[0]).any()


@pytest.mark.parametrize("task", TASKS)
def test_its_expert_does_it(task: str) -> None:
    env = make(task)
    assert sum(drive(env, seed)[2]["success"] for seed in range(100)) >= 99


# --- that memory is needed ---------------------------------------------------------------------------------


def test_tmaze_shows_nothing_of_the_cue_after_five_steps() -> None:
    env, actions = make("tmaze", length=12), np.random.default_rng(0).uniform([0.5, -1], [1, 1], (80, 2))
    for seed in range(5):
        runs = [repeat(env, seed, actions, {"cue": cue}) for cue in (-1, 1)]
        (left, told), (right, _) = runs
        assert len(left) == len(right) > 14 and (left[:, 1:] == right[:, 1:]).all()
        assert (left[:SHOWN, 0] == -1).all() and (right[:SHOWN, 0] == 1).all()
        assert (left[SHOWN:] == right[SHOWN:]).all() and not told[0]["success"]
    ends = [runs[i][1][-1]["success"] for i in (0, 1)]
    assert sorted(ends) == [False, True]  # the same way is right for one of them


def test_remember_color_shows_nothing_of_the_color_once_it_is_hidden() -> None:
    for count in (3, 5, 9):
        env = make(f"remember-color-{count}", hidden=7)
        names = env.colors  # type: ignore[attr-defined]
        actions = np.concatenate([np.zeros((12, 2)), np.tile([0.6, 0.0], (30, 1))])
        runs = [repeat(env, 1, actions, {"color": name, "hand": [0.0, 0.0]}) for name in names]
        seen = [run[0] for run in runs]
        assert all((a[5:] == seen[0][5:]).all() and len(a) == len(seen[0]) for a in seen)
        shown = [a[0, env.sensors["cubes"]].reshape(count, 3) for a in seen]
        assert [s[:, 2].argmax() for s in shown] == list(range(count)) and all(
            s[:, 2].sum() == 1 for s in shown
        )
        assert (seen[0][5:12, 4:] == 0).all() and (seen[0][12, 6::3] == 1).all()
        ends = [run[1][-1]["success"] for run in runs]
        assert sum(ends) == 1  # the cube that was touched is right for one colour


def test_take_it_back_shows_nothing_of_the_first_place_once_it_is_left() -> None:
    """From two places to the corner: from there on all is the same but where the cube has to go."""
    env, corner = make("take-it-back"), [-TABLE, -TABLE]
    actions = np.concatenate(
        [np.tile([0, 0, 1.0], (1, 1)), np.tile([-1, -1, 1.0], (60, 1)), np.tile([0, 0, -1.0], (9, 1))]
    )
    places = ([0.0, 0.0], [0.1, 0.05])
    one, other = (repeat(env, 0, actions, {"hand": p, "cube": p, "spot": corner}) for p in places)
    assert (one[0][-8:] == other[0][-8:]).all() and one[0][-1, -1] == 1
    np.testing.assert_allclose(one[0][-1, 5:7], corner)
    goals = [run[1][-1]["goal"] for run in (one, other)]
    np.testing.assert_allclose(goals, places)
    assert np.hypot(*(goals[0] - goals[1])) > 2 * BACK  # no place is right for both


@pytest.mark.parametrize("task", ANSWERS)
def test_nothing_of_what_an_expert_does_before_the_decision_tells_the_answer(task: str) -> None:
    """The same seed with another answer: the same actions, disturbances included, until the decision."""
    (option, values), env = ANSWERS[task], make(task)
    for seed in range(20):
        runs = []
        for value in values:
            observation, _ = env.reset(seed=seed, options={option: value})
            driver, mischief = env.make_expert(seed), env.mischief(np.random.default_rng(seed))
            rows, over = [], False
            while not over:
                undecided = env.x < env.end if task == "tmaze" else env.steps < env.appear  # type: ignore[attr-defined]
                if not undecided:
                    break
                command = driver.act()
                executed = mischief.meddle(env, command, env.steps)
                rows.append(np.concatenate([command, executed, observation[-3:] if task == "tmaze" else []]))
                observation, _, *ends, _ = env.step(executed)
                over = any(ends)
            runs.append(np.array(rows))
        assert len(runs[0]) >= 10 and (runs[0] == runs[1]).all()


def test_a_corridor_of_ten_thousand_cells_looks_like_one_of_a_hundred() -> None:
    env = make("tmaze", length=10_000)
    long, _, info = drive(env, 0)
    assert info["success"] and env.limit == 20_060 and len(long) > 10_000
    inside = long[20:9_000]
    short = np.concatenate([drive(make("tmaze", length=100), seed)[0][20:80] for seed in range(60)])
    assert (inside[:, 0] == 0).all() and (inside[:, 4] == np.float32(3 * CELL)).all()
    assert abs(inside[:, 1].std() - short[:, 1].std()) < 0.002 and abs(inside[:, 1].mean()) < 0.002
    assert abs(inside[:, 3].std() - short[:, 3].std()) < 0.01


# --- how they work -----------------------------------------------------------------------------------------


def test_a_cell_is_a_step_at_top_speed_and_walls_stop() -> None:
    env = make("tmaze")
    env.reset(seed=0, options={"length": 20, "lateral": 0.0, "cue": 1})
    assert env.limit == 100
    places = []
    for _ in range(30):
        observation, _, terminated, _, _ = env.step(np.array([1.0, 0.0]))
        places.append(env.x)
    np.testing.assert_allclose(np.diff(places)[5:15], CELL)
    assert env.x == pytest.approx(22 * CELL) and not terminated
    np.testing.assert_allclose(observation[2:], [0, 0, 0, 3 * CELL, 3 * CELL], atol=1e-6)
    for _ in range(3):
        observation, *_ = env.step(np.array([0.0, 0.5]))
    assert observation[5] == pytest.approx(WIDE + 3 * CELL - env.y) and observation[3] == pytest.approx(0.2)


def test_episodes_end_in_time() -> None:
    for task, steps in (("tmaze", 140), ("remember-color-3", 70), ("take-it-back", 300)):
        env = make(task)
        still, infos = repeat(env, 0, np.zeros((400, len(env.actions))))
        assert len(still) == steps + 1 and not infos[-1]["success"]
    assert make("remember-color-3", hidden=1000).limit == 1065


def test_touching_another_color_ends_the_episode() -> None:
    env = make("remember-color-3")
    places = [[0.1, 0.0], [-0.1, 0.0], [0.0, 0.1]]
    for color, won in (("red", True), ("green", False)):
        options = {"color": color, "hand": [0.1 - TOUCH / 2, 0.0], "cubes": places}
        seen, infos = repeat(env, 0, np.zeros((70, 2)), options)
        assert len(seen) == 12 and infos[-1]["success"] is won  # not before they can be seen
        assert infos[-1]["first_reach"] == (11 if won else None) and infos[-1]["progress"] <= 1.0


def test_a_cube_is_held_from_near_and_stays_where_it_is_released() -> None:
    env = make("take-it-back")
    options = {"hand": [0.026, 0.0], "cube": [0.0, 0.0], "spot": [0.2, 0.2]}
    env.reset(seed=0, options=options)
    env.step(np.array([0, 0, 1.0]))
    assert not env.held and env.closed  # type: ignore[attr-defined]
    env.reset(seed=0, options={**options, "hand": [0.024, 0.0]})
    for action in ([0, 0, 1.0], *[[1, 0, 1.0]] * 5):
        env.step(np.array(action))
    assert env.held and env.cube[0] == pytest.approx(env.x - 0.024)  # type: ignore[attr-defined]
    env.step(np.array([1, 0, -1.0]))
    put = env.cube  # type: ignore[attr-defined]
    observation, _, _, _, info = env.step(np.array([1, 0, -1.0]))
    assert env.cube == put and observation[-1] == 0 and not info["success"]  # type: ignore[attr-defined]


# --- disturbances ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["freeze", "blank", "offset", "move"])
def test_a_disturbance_changes_what_it_says(task: str, kind: str) -> None:
    if task == "tmaze" and kind == "move":
        with pytest.raises(ValueError, match="got disturbance 'move', expected one of freeze"):
            make(task, disturb=kind)
        return
    for seed in range(5):
        actions = np.random.default_rng(seed).uniform(-0.2, 0.2, (55, len(make(task).actions)))
        clean, _ = repeat(make(task), seed, actions)
        seen, infos = repeat(make(task, disturb=kind), seed, actions)
        env = make(task)
        part = env.sensors[env.main_sensor]
        other = np.ones(clean.shape[1], bool)
        other[part] = False
        doubtful = np.array([info["doubtful"] == (env.main_sensor,) for info in infos])
        assert (seen[:, other] == clean[:, other]).all() and infos[-1]["disturbed"]
        if kind == "move":
            changed = (seen != clean).any(1)
            assert not doubtful.any() and changed.any() and changed[np.argmax(changed) :].all()
            moved = (seen - clean)[-1, part]
            assert 0.049 < np.hypot(*moved[np.abs(moved) > 0][:2]) < 0.101 and (moved != 0).sum() <= 2
            continue
        assert doubtful.sum() == 20 and not infos[0]["disturbed"]
        assert (seen[~doubtful] == clean[~doubtful]).all()
        if kind == "blank":
            assert (seen[doubtful][:, part] == 0).all()
        elif kind == "freeze":
            assert (seen[doubtful][:, part] == clean[np.argmax(doubtful) - 1, part]).all()
        else:
            moved = (seen - clean)[doubtful][-1, part]
            low, high = env.offset
            assert low - 1e-6 < np.hypot(*moved[:2]) < high + 1e-6


def test_an_offset_does_not_show_what_is_hidden() -> None:
    what = {"kind": "offset", "sensor": "cubes", "start": 0, "span": 1, "size": 0.04}
    seen, _ = repeat(make("remember-color-5"), 0, np.zeros((15, 2)), {"disturb": what, "color": "blue"})
    clean, _ = repeat(make("remember-color-5"), 0, np.zeros((15, 2)), {"color": "blue"})
    moved = seen - clean
    assert (moved[5:10] == 0).all() and (moved[:5, [4, 5, 7, 8]] == 0).all()
    np.testing.assert_allclose(np.hypot(moved[:5, 10], moved[:5, 11]), 0.04, atol=1e-6)
    np.testing.assert_allclose(moved[10:, 4:].reshape(6, 5, 3)[..., 0], moved[0, 10], atol=1e-6)


def test_experts_get_over_what_goes_wrong() -> None:
    for task in TASKS:
        data = memory.collect_memory(task, 200, seed=1, **SHORT.get(task, {}))
        differs = (data.arrays["actions"] != data.arrays["executed"]).any(1)
        each = [differs[a:b].any() for a, b in zip(data.starts, data.ends, strict=True)]
        assert 0.5 < np.mean(each) < 0.8 and 0.01 < differs.mean() < 0.4


# --- options, errors, demonstrations -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "kwargs", "match"),
    [
        ("tmaze", {"length": 5}, "got length=5, expected a whole number of cells, 6 or more"),
        ("tmaze", {"lengths": (20, 10), "length": None}, "expected the shortest corridor first"),
        ("tmaze", {"lengths": (6,), "length": None}, "expected two"),
        ("tmaze", {"length": 9, "lengths": (6, 9)}, "leave one out"),
        ("tmaze", {"disturb": {"kind": "offset", "sensor": "cue"}}, "shows no lengths; use blank or freeze"),
        ("tmaze", {"disturb": {"kind": "blank", "sensor": "wall"}}, "did you mean 'walls'"),
        ("tmaze", {"disturb": "push"}, "got disturbance 'push'"),
        ("remember-color-3", {"hidden": -1}, "got hidden=-1, expected a whole number, 0 or more"),
        ("remember-color-3", {"colors": 10}, "got colors=10, expected a whole number, 2 to 9"),
        ("remember-color-3", {"shown": 0}, "got shown=0"),
        ("take-it-back", {"render_mode": "rgb"}, "did you mean 'rgb_array'"),
    ],
)
def test_what_an_environment_refuses(task: str, kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make(task, **kwargs)


@pytest.mark.parametrize(
    ("task", "options", "match"),
    [
        ("tmaze", {"cue": 0}, r"got cue 0, expected 1 \(left\) or -1 \(right\)"),
        ("tmaze", {"length": 3}, "6 or more"),
        ("tmaze", {"lateral": 0.1}, "inside the corridor"),
        ("tmaze", {"lenght": 9}, "did you mean 'length'"),
        ("remember-color-3", {"color": "orange"}, "expected one of red, green, blue"),
        ("remember-color-3", {"hand": [1.0, 0.0]}, "on the table"),
        ("remember-color-3", {"cubes": [[0.0, 0.0], [0.1]]}, "got cubes"),
        ("take-it-back", {"cube": [0.0, 0.0], "spot": [0.01, 0.0]}, "at least 0.08 m apart"),
        ("take-it-back", {"cube": [np.nan, 0.0]}, "expected 2 finite numbers"),
    ],
)
def test_what_a_reset_refuses(task: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make(task).reset(seed=0, options=options)


@pytest.mark.parametrize("action", [[0.0], [np.nan, 0.0], [[0.0, 0.0]], "no", 0.0])
def test_actions_that_are_none(action: Any) -> None:
    env = make("tmaze")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="expected 2 finite numbers"):
        env.step(np.array(action) if isinstance(action, list) else action)


def test_actions_beyond_the_bounds_are_clipped() -> None:
    one, _ = repeat(make("tmaze"), 0, np.full((9, 2), 7.0))
    other, _ = repeat(make("tmaze"), 0, np.full((9, 2), 1.0))
    assert (one == other).all()


def test_lengths_are_drawn_for_each_episode() -> None:
    env = make("tmaze", length=None, lengths=(10, 12))
    found = set()
    for seed in range(30):
        env.reset(seed=seed)
        found.add((env.length, env.cue))  # type: ignore[attr-defined]
        assert env.limit == 2 * env.length + 60  # type: ignore[attr-defined]
    assert found == {(length, cue) for length in (10, 11, 12) for cue in (-1, 1)}


@pytest.mark.parametrize("task", TASKS)
def test_demonstrations_end_in_success_and_say_what_they_are(task: str, tmp_path: Any) -> None:
    path = memory.generate_memory(task, tmp_path / "d.hdf5", 6, seed=3)
    data, again = load(path), memory.collect_memory(task, 6, seed=3)
    for key in ("observations", "actions", "executed", "rewards"):
        np.testing.assert_allclose(data.arrays[key], again.arrays[key], atol=1e-7)
    assert (
        (data.arrays["rewards"][data.ends - 1] == 1).all()
        and len(data) == 6
        and data.dt == pytest.approx(0.05)
    )
    env = envs.make(data.info["env_args"]["env_name"], **data.info["env_args"]["env_kwargs"]).unwrapped
    assert list(env.channel_names) == data.info["names"]["observations"]
    assert {k: slice(*v) for k, v in data.info["groups"].items()} == env.sensors
    names = [*data.info["names"]["observations"], *data.info["names"]["actions"]]
    assert len(set(names)) == len(names) and set(data.info["relative"].values()) <= {"hand_x", "hand_y"}
    with pytest.raises(ValueError, match="episodes=0"):
        memory.collect_memory(task, 0)


def test_the_command_generates_them(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "t.hdf5"
    words = ["dfplan", "data", "generate", "tmaze", "--episodes", "3", "--seed", "0", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    cli.main()
    assert len(load(out)) == 3
    with pytest.raises(ValueError, match="did you mean 'tmaze'"):
        memory.collect_memory("tmazes", 3)


def test_the_nearest_demonstration_acts_in_its_own_kind_of_action(tmp_path: Any) -> None:
    """Demonstrations of `swap` are poses of the hand, while its environment takes joint targets by itself."""
    out, place = tmp_path / "s.hdf5", Place()
    data_command(action="generate", name="swap", out=out, made=Made(episodes=1))
    evaluate("swap", place, Actor(actor="nearest", data=str(out)), Episodes(1, json=tmp_path / "s.json"))
    assert '"success"' in (tmp_path / "s.json").read_text()
    for given, message in (
        ("nearst", "did you mean 'nearest'"),
        ("random", "got --data, which is for graph and nearest"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate("tmaze", place, Actor(actor=given, data=str(out) * (given == "random")), Episodes(1))
    with pytest.raises(
        ValueError, match=r"got demonstrations of dfplan/Swap-v1 for 'tmaze', expected those of"
    ):
        evaluate("tmaze", place, Actor(actor="nearest", data=str(out)), Episodes(1))
    with pytest.raises(ValueError, match="pusht has no demonstrations of its own"):
        evaluate("pusht", place, Actor(actor="nearest"), Episodes(1))
