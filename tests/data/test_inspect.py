import json

import numpy as np
import pytest
from samples import sample

from dfplan.data import Episodes, inspect, inspect_figure, write_npz, write_robomimic
from dfplan.data.inspect import Report
from dfplan.data.inspect_checks import targets


def walk(steps=400, columns=3, seed=0, episodes=4):
    """Smooth random motion (episodes * steps, columns), and its ends."""
    rng = np.random.default_rng(seed)
    rows = np.cumsum(rng.standard_normal((episodes, steps, columns)) * 0.01, 1) + rng.standard_normal(
        (1, 1, columns)
    )
    return rows.reshape(-1, columns), np.arange(1, episodes + 1) * steps


def data(observations, ends, actions=None, **info):
    arrays = {"observations": observations} | ({} if actions is None else {"actions": actions})
    return Episodes(arrays, ends, 0.1, "walk", info)


def changed(rows, index, value):
    rows = rows.copy()
    rows[index] = value
    return rows


ROWS, ENDS = walk()
ROWS_T = np.arange(len(ROWS))
QUAT = np.concatenate([np.ones((len(ROWS), 1)), 0.1 * np.sin(ROWS)], 1)
QUAT /= np.linalg.norm(QUAT, axis=1, keepdims=True)
GROUP = {"groups": {"eef_quat": [0, 4]}}
ANGLE = np.mod(np.cumsum(np.full(len(ROWS), 0.05)), 2 * np.pi)[:, None]

PROBLEMS = {
    "nan": (
        data(changed(ROWS, (7, 1), np.nan), ENDS),
        "observations: 1 rows hold NaN or infinity, first row 7",
    ),
    "constant": (
        data(np.c_[ROWS, np.ones(len(ROWS))], ENDS),
        r"1 of 4 columns never change \(observations\[3\]\)",
    ),
    "range": (data(ROWS, ENDS, ROWS * 9, format="robomimic"), r"leave \[-1, 1\], which robomimic needs"),
    "single": (data(ROWS, [5, 6, len(ROWS)]), "1 of 3 episodes have a single env step, first episode 1"),
    "repeated": (
        data(np.concatenate([ROWS[:400]] * 3), [400, 800, 1200]),
        r"2 episodes repeat .*\(1 repeats 0, 2 repeats 0\)",
    ),
    "wrap": (data(ANGLE, ENDS), r"angles wrap by 2 pi inside episodes \(observations \(\d+ times\)\)"),
    "jump": (
        data(np.r_[ROWS[:50], ROWS[50:] + 9], ENDS),
        r"3 columns jump inside an episode.*observations\[0\] in row 50, ",
    ),
    "quaternion length": (data(QUAT * 1.1, ENDS, **GROUP), "eef_quat: not of unit length in 1600 rows"),
    "quaternion flips": (
        data(QUAT * np.where((ROWS_T > 9) & (ROWS_T < 20), -1, 1)[:, None], ENDS, **GROUP),
        "eef_quat: the sign flips 2 times inside episodes, first in row 10",
    ),
    "stated": (data(ROWS, ENDS, warnings=["the clock stood still"]), "the clock stood still"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_problem_is_found_and_it_alone(case):
    import re

    episodes, message = PROBLEMS[case]
    problems = inspect(episodes).problems
    assert any(re.search(message, problem) for problem in problems), problems
    assert len(problems) == 1 + (case in ("jump", "quaternion flips") and len(problems) == 2)


def test_clean_data_have_no_problem():
    report = inspect(data(ROWS, ENDS, np.sin(ROWS * 50)))
    assert report.problems == () and report.lines()[-1] == "  no problem found"


def test_a_change_of_episode_is_neither_a_jump_nor_a_flip():
    shift = np.repeat([0.0, 9.0, -9.0, 4.0], 400)[:, None]
    assert inspect(data(ROWS + shift, ENDS)).problems == ()
    sign = np.repeat([1, -1, 1, -1], 400)[:, None]
    assert inspect(data(QUAT * sign, ENDS, **GROUP)).problems == ()


GUESSES = {
    "exact": (np.r_[ROWS[1:], ROWS[-1:]], "3 action columns equal a column of the next observation exactly"),
    "absolute": (np.r_[ROWS[1:], ROWS[-1:]] + 0.003, r"targets \(absolute\): near the observation in 3 of 3"),
    "delta": (np.r_[np.diff(ROWS, axis=0), ROWS[:1]] * 20, r"steps \(delta\).*the observation in 3 of 3"),
}


@pytest.mark.parametrize("case", GUESSES)
def test_kind_of_action_is_guessed(case):
    import re

    actions, message = GUESSES[case]
    guesses = inspect(data(ROWS, ENDS, actions)).guesses
    assert len(guesses) == 1 and re.search(message, guesses[0]), guesses


def test_actions_without_relation_are_not_guessed_and_stated_ones_are_said():
    noise = np.random.default_rng(1).standard_normal((len(ROWS), 3))
    assert inspect(data(ROWS, ENDS, noise)).guesses == ()
    assert "takes delta actions (stated" in inspect(data(ROWS, ENDS, noise, action_mode="delta")).guesses[0]


@pytest.mark.parametrize(("sign", "word"), [(1, "opens"), (-1, "closes")])
def test_sign_of_the_gripper(sign, word):
    grip = np.where(np.sin(ROWS_T / 20) > 0, 1.0, -1.0)
    width = 0.02 + 0.0003 * np.cumsum(sign * grip)
    rows = np.c_[ROWS, width, -width]
    groups = {"eef_pos": [0, 3], "robot0_gripper_qpos": [3, 5]}
    actions = np.c_[np.random.default_rng(1).standard_normal((len(ROWS), 2)), grip]
    guesses = inspect(data(rows, ENDS, actions, groups=groups)).guesses
    assert any(
        f"actions[2] takes only the values [-1.0, 1.0]: a gripper; +1 {word} it" in g for g in guesses
    ), guesses
    assert any("robosuite's convention" in g for g in inspect(data(ROWS, ENDS, actions)).guesses)


def test_report_of_a_file(tmp_path):
    write_robomimic(sample(), tmp_path / "a.hdf5")
    report = inspect(tmp_path / "a.hdf5", mask="train")
    assert (report.format, report.name, report.dt, report.lengths) == ("robomimic", "sample", 0.05, (5, 4))
    text = "\n".join(report.lines())
    assert "2 episodes, 9 env steps, 20 Hz; episode length min 4, median 4.5, max 5" in text
    assert "observations (9,) float32" in text and "    quat.w: " in text
    again = json.loads(json.dumps(report.to_dict()))
    assert again["arrays"][0]["names"][0] == "pos.x" and again["lengths"] == [5, 4]
    low = sample().select([0, 2]).arrays["observations"].min(0)
    np.testing.assert_array_equal(np.float32(again["arrays"][0]["low"]), low)


def test_what_a_reader_refuses_is_in_the_report(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(sample(), path)
    path.write_bytes(path.read_bytes()[:300])
    report = inspect(path)
    assert report.format == "none" and "cut short" in report.problems[0] and report.episodes is None
    with pytest.raises(ValueError, match="nothing was read"):
        inspect_figure(report)
    with pytest.raises(FileNotFoundError):
        inspect(tmp_path / "nothing.npz")


def test_nan_in_a_file_is_reported_and_not_refused(tmp_path):
    rows = changed(ROWS, (7, 1), np.nan)
    np.savez(tmp_path / "a.npz", observations=rows, episode_ends=ENDS)
    report = inspect(tmp_path / "a.npz")
    assert "time step of 'a' is not known" in report.problems[0] and "1 rows hold NaN" in report.problems[1]
    assert report.dt is None and "rate not stated" in report.lines()[1]
    assert np.isfinite(report.arrays[0].low).all()
    with pytest.raises(ValueError, match="did you mean 'dt'"):
        inspect(tmp_path / "a.npz", td=0.1)


@pytest.mark.parametrize("actions", [None, ROWS[:, :1]])
def test_figure(tmp_path, actions):
    episodes = data(ROWS, ENDS, actions)
    figure = inspect_figure(inspect(episodes), episode=3)
    assert len(figure.axes) == (4 if actions is None else 6)
    lines = figure.axes[3].get_lines()
    np.testing.assert_array_equal(lines[1].get_ydata(), ROWS[1200:, 1])
    np.testing.assert_allclose(lines[1].get_xdata()[-1], 39.9)
    assert isinstance(inspect(episodes), Report)
    with pytest.raises(ValueError, match="episode 4, expected 0 to 3"):
        inspect_figure(episodes, 4)


def test_targets_are_found_beside_what_they_move():
    """Whatever the order of the columns; not a force, not an angle over its seam, and each observation once."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(2000, 4)).cumsum(0)
    seen[:, 3] = np.mod(seen[:, 3] + np.pi, 2 * np.pi) - np.pi
    after = np.vstack([seen[1:], seen[-1:]])
    acts = np.column_stack([after[:, 2] + 0.3, rng.normal(size=2000), after[:, 3], after[:, 0], after[:, 0]])
    found = targets(Episodes({"observations": seen, "actions": acts}, np.array([700, 2000]), 0.1, "arm"))
    assert found == {0: 2, 3: 0} or found == {0: 2, 4: 0}
    few = {"observations": seen[:40], "actions": acts[:40]}
    assert targets(Episodes(few, np.array([40]), 0.1, "arm")) == {}
