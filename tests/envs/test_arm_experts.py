from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dfplan.envs as envs
from dfplan.deploy.robot.panda import LIMITS
from dfplan.envs.arm import DT, KINDS, ArmEnv, ArmPickEnv, ArmReachEnv, Disturbance, collect, expert
from dfplan.envs.arm.pick import grasp_yaw

TASKS = ("arm-reach", "arm-pick")


def run(env: Any, task: str, seed: int, **options: Any) -> tuple[list[dict[str, Any]], np.ndarray]:
    first, info = env.reset(seed=seed, options=options)
    driver, infos, rows = expert(task, env, seed), [info], [first]
    while True:
        observation, _, terminated, truncated, info = env.step(driver.act())
        infos.append(info)
        rows.append(observation)
        if terminated or truncated:
            return infos, np.array(rows)


@pytest.mark.parametrize("task", TASKS)
def test_expert_succeeds_and_the_episode_ends(task: str) -> None:
    env = envs.make(task)
    for seed in range(12):
        infos, rows = run(env, task, seed)
        assert infos[-1]["success"] and not infos[-1]["collided"]
        assert [info["success"] for info in infos[-5:]] == [True] * 5 and not infos[-6]["success"]
        assert infos[-1]["first_reach"] <= len(infos) - 5
        assert infos[-1]["progress"] == 1.0 and max(info["progress"] for info in infos[:20]) < 0.9
        assert (np.abs(rows[:, 7:14]) < LIMITS.velocity).all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["push", "move"])
def test_expert_recovers(task: str, kind: str) -> None:
    env = envs.make(task, disturb=kind)
    for seed in range(4):
        infos, _ = run(env, task, seed)
        assert infos[-1]["success"] and infos[-1]["disturbed"] and not infos[0]["disturbed"]


def test_expert_goes_different_ways_round() -> None:
    env = ArmReachEnv()
    ways = set()
    for seed in range(20):
        env.reset(seed=3)
        ways.add(expert("arm-reach", env, seed).way)  # type: ignore[attr-defined]
    assert len(ways) >= 2 and ways <= {"left", "right", "over"}


def test_expert_of_another_task_is_refused() -> None:
    env = envs.make("arm-pick")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="ArmPickEnv"):
        expert("arm-reach", env, 0)
    with pytest.raises(ValueError, match="did you mean 'arm-pick'"):
        expert("arm-pik", env, 0)


@pytest.mark.parametrize("task", TASKS)
def test_collect(task: str) -> None:
    seen: list[int] = []
    data = collect(task, 3, seed=5, progress=seen.append)
    again = collect(task, 3, seed=5)
    assert seen == [1, 2, 3] and len(data) == 3 and data.dt == 0.05 and data.name == task
    columns = {"arm-reach": 39, "arm-pick": 36}[task]
    assert data.arrays["observations"].shape == (data.steps, columns)
    assert data.arrays["actions"].shape == (data.steps, 8) and data.arrays["rewards"].shape == (data.steps,)
    for key, values in data.arrays.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, again.arrays[key])
    for end in data.ends:
        np.testing.assert_array_equal(data.arrays["rewards"][end - 10 : end], 1.0)
    actions = data.arrays["actions"]
    lead = np.abs(actions[:, :7] - data.arrays["observations"][:, :7])
    assert (lead < 0.2).all() and (actions[:, 7] >= 0).all() and (actions[:, 7] <= 0.08).all()
    with pytest.raises(ValueError, match="episodes=0"):
        collect(task, 0)


def test_recorded_commands_of_an_undisturbed_episode_replay_to_success() -> None:
    env = ArmPickEnv()
    env.reset(seed=2)
    driver, commands, done = expert("arm-pick", env, 2), [], False
    while not done:
        commands.append(driver.act())
        _, _, done, _, _ = env.step(commands[-1])
    env.reset(seed=2)
    assert [env.step(command)[2] for command in commands][-1]


def test_cube_is_carried_not_shoved() -> None:
    env = ArmPickEnv()
    infos, rows = run(env, "arm-pick", 0)
    cube, tool = rows[:, 24:27], rows[:, 15:18]
    lifted = cube[:, 2] > 0.04
    assert lifted.sum() > 10
    assert np.linalg.norm(cube[lifted] - tool[lifted], axis=1).max() < 0.015
    assert np.abs(cube[: np.argmax(lifted)] - cube[0])[:, :2].max() < 0.03
    assert len(infos) == len(rows)


@pytest.mark.parametrize("quarter", [-1, 0, 1, 2])
def test_grasp_yaw_is_that_of_the_nearest_face(quarter: int) -> None:
    for yaw in (-0.7, 0.0, 0.3):
        turned = yaw + quarter * np.pi / 2
        c, s = np.cos(turned), np.sin(turned)
        about_z = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        on_side = about_z @ np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
        assert grasp_yaw(about_z) == pytest.approx(yaw)
        assert grasp_yaw(on_side) == pytest.approx(yaw)


@pytest.mark.parametrize("kind", ["freeze", "blank", "offset"])
@pytest.mark.parametrize(
    ("task", "sensor"), [("arm-pick", "object"), ("arm-pick", "ee"), ("arm-reach", "target")]
)
def test_failing_sensors(kind: str, task: str, sensor: str) -> None:
    what = {"kind": kind, "sensor": sensor, "start": 0.5, "span": 0.4}
    env = envs.make(task, disturb=what)
    clean, _ = run_steps(envs.make(task), task)
    rows, doubtful = run_steps(env, task)
    part = env.unwrapped.sensors[sensor]  # type: ignore[attr-defined]
    assert [i for i, names in enumerate(doubtful) if names] == list(range(10, 18))
    assert doubtful[10] == (sensor,)
    other = np.ones(rows.shape[1], dtype=bool)
    other[part] = False
    np.testing.assert_array_equal(rows[:, other], clean[:, other])
    np.testing.assert_array_equal(np.delete(rows, range(10, 18), 0), np.delete(clean, range(10, 18), 0))
    span = rows[10:18, part]
    if kind == "freeze":
        np.testing.assert_array_equal(span, np.repeat(clean[9:10, part], 8, 0))
    elif kind == "blank":
        np.testing.assert_array_equal(span, 0.0)
    else:
        shift = span - clean[10:18, part]
        np.testing.assert_allclose(shift, np.repeat(shift[:1], 8, 0), atol=1e-6)
        assert 0.05 <= np.linalg.norm(shift[0, :3]) <= 0.1 and np.abs(shift[0, 3:]).max() < 1e-6


def run_steps(env: Any, task: str) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    observation, info = env.reset(seed=4)
    driver, rows, doubtful = expert(task, env, 4), [observation], [info["doubtful"]]
    for _ in range(25):
        observation, _, _, _, info = env.step(driver.act())
        rows.append(observation)
        doubtful.append(info["doubtful"])
    return np.array(rows), doubtful


def test_a_sensor_may_freeze_from_the_start() -> None:
    env = ArmPickEnv(disturb={"kind": "freeze", "sensor": "ee", "start": 0.0})
    first, info = env.reset(seed=0)
    assert info["doubtful"] == ("ee",)
    for _ in range(5):
        observation, *_ = env.step(np.append(first[:7] + 0.2, 0.08))
    np.testing.assert_array_equal(observation[15:24], first[15:24])


def test_push_pushes_once_and_for_its_span() -> None:
    env = ArmPickEnv(disturb=Disturbance("push", start=0.5, span=0.2, size=50.0))
    observation, _ = env.reset(seed=0)
    hold, forces, places = np.append(observation[:7], 0.08), [], []
    for _ in range(40):
        observation, *_ = env.step(hold)
        forces.append(np.linalg.norm(env.physics.data.xfrc_applied[env.physics.hand, :3]))
        places.append(observation[15:18])
    assert [i for i, force in enumerate(forces) if force > 0] == [10, 11, 12, 13]
    assert forces[10] == pytest.approx(50.0)
    away = np.linalg.norm(np.array(places) - places[0], axis=1)
    assert away[:10].max() < 1e-3 and 0.005 < away.max() < 0.2 and away[-1] < 0.005


@pytest.mark.parametrize("kind, step, size", [(ArmPickEnv, 10, 0.07), (ArmReachEnv, 4, 0.06)])
def test_move_moves_the_cube_or_the_target_once(kind: type[ArmEnv], step: int, size: float) -> None:
    env = kind(disturb={"kind": "move", "start": step * DT, "size": size})
    observation, _ = env.reset(seed=0)
    hold = np.append(observation[:7], 0.08)
    places = np.array([env.step(hold)[0][24:27] for _ in range(30)])
    jumps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert [i for i, jump in enumerate(jumps) if jump > 1e-3] == [step - 1]
    assert jumps[step - 1] == pytest.approx(size, abs=1e-3)


def test_a_held_cube_is_never_moved() -> None:
    env = ArmPickEnv()
    env.reset(seed=0)
    driver, rng, held = expert("arm-pick", env, 0), np.random.default_rng(0), 0
    for _ in range(90):
        env.step(driver.act())
        if env.physics.opening < 0.0415:
            held += 1
            assert not env.displace(rng, 0.07)
    assert held > 10
    # And a move that falls due while it is held, and afterwards on the spot, does not happen at all.
    infos, _ = run(envs.make("arm-pick"), "arm-pick", 0, disturb={"kind": "move", "start": 2.5})
    assert infos[-1]["success"]


@pytest.mark.parametrize("held", [True, False])
def test_a_cube_that_is_lost_is_fetched_again(held: bool) -> None:
    class Always(np.random.Generator):
        def random(self) -> float:  # type: ignore[override]
            return 0.0

    env = ArmPickEnv(terminate_on_success=False)
    env.reset(seed=0)
    driver, rng, lost = expert("arm-pick", env, 0), Always(np.random.PCG64(0)), 0
    for _ in range(300):
        before, closed = env.cube[0], env.physics.opening < 0.0415
        if closed == held and not lost and env.lose(rng):
            lost += 1
            place = env.physics.data.qpos[9:11]
            assert (0.05 if held else 0.025) <= np.linalg.norm(place - before[:2]) <= (0.12 if held else 0.05)
            assert np.linalg.norm(place - env.goal[:2]) > 0.025
        if env.step(driver.act())[4]["success"] and lost:
            break
    assert lost == 1 and env.succeeded()


@pytest.mark.parametrize("task", TASKS)
def test_disturbances_do_not_change_what_is_drawn(task: str) -> None:
    plain, _ = envs.make(task).reset(seed=9)
    for kind in KINDS:
        env = envs.make(task, disturb=kind)
        np.testing.assert_array_equal(env.reset(seed=9)[0], plain)
        assert env.reset(seed=10)[1]["disturbed"] is False


def test_bad_disturbances_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'push'"):
        envs.make("arm-pick", disturb="psh")
    with pytest.raises(ValueError, match="did you mean 'object'"):
        envs.make("arm-pick", disturb={"kind": "freeze", "sensor": "objct"})
    with pytest.raises(ValueError, match="did you mean 'span'"):
        envs.make("arm-pick", disturb={"kind": "push", "spam": 0.3})
    with pytest.raises(ValueError, match="which has no sensor"):
        Disturbance("push", sensor="object")
    with pytest.raises(ValueError, match="got start=-1"):
        Disturbance("push", start=-1.0)
    with pytest.raises(ValueError, match="a mapping with 'kind'"):
        Disturbance.of({"sensor": "object"})
    env = ArmPickEnv()
    with pytest.raises(ValueError, match="did you mean 'move'"):
        env.reset(seed=0, options={"disturb": "mov"})


class Sleeper:
    """A student that stays wherever it is; says what it was told."""

    def __init__(self) -> None:
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        self.told: list[Any] = []
        self.seen: list[Any] = []
        self.doubted: list[tuple[str, ...]] = []

    def observe(self, observation: Any, doubtful: Any = (), executed: Any = None) -> None:
        self.told.append(executed)
        self.seen.append(observation)
        self.doubted.append(tuple(doubtful))

    def act(self, observation: Any, doubtful: Any = (), executed: Any = None) -> Any:
        self.observe(observation, doubtful, executed)
        return np.append(observation[15:24], observation[14])


def test_a_student_takes_turns_and_the_expert_says_what_it_would_do() -> None:
    student = Sleeper()
    data = collect("arm-pick", 1, seed=5, action="ee", student=student)
    executed, actions = data.arrays["executed"], data.arrays["actions"]
    told = np.array(student.told[1:])  # in the last attempt, the one that is kept
    np.testing.assert_allclose(executed[:-1], told, atol=5e-4)  # as near as joints come to a pose
    seen = data.arrays["observations"]
    slept = np.abs(executed - np.column_stack([seen[:, 15:24], seen[:, 14]])).max(1) < 1e-3
    assert 40 <= slept.sum() < len(slept) - 20  # both have driven, and the expert got there
    assert np.abs(actions - executed)[slept].max() > 0.02  # what it would have done meanwhile
    alone = collect("arm-pick", 1, seed=5, action="ee")
    assert len(alone.arrays["actions"]) < len(actions)


def test_a_student_whose_sensor_fails_is_told_so_and_what_was_there_is_recorded() -> None:
    student, failed = Sleeper(), 0
    for seed in range(5, 9):
        data = collect("arm-pick", 1, seed=seed, action="ee", student=student)
        doubted = np.array([d == ("object",) for d in student.doubted])
        wrong = np.abs(np.array(student.seen) - data.arrays["observations"]).max(1) > 1e-6
        assert not wrong[~doubted].any()
        failed += int(wrong.any())
    assert 1 <= failed < 4


def test_a_hesitation_is_carried_out_and_not_said() -> None:
    data = collect("arm-pick", 8, seed=0)
    now = data.arrays["observations"][:, :7]
    said, done = (np.abs(data.arrays[key][:, :7] - now).max(1) for key in ("actions", "executed"))  # rad
    stood = done < 1e-5
    assert stood.sum() >= 3 and said[stood].min() > 0.005  # it stands still, and says where to go
