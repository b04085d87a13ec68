"""Judging: the rules' errors in closed form, a policy on held-out recordings, and the command."""

import json
import sys

import numpy as np
import pytest

from dfplan import cli
from dfplan.act import ImitationConfig
from dfplan.act.judge import judge, rules
from dfplan.data import Episodes, write_npz
from dfplan.policies import Nearest
from dfplan.show.judgement import judgement_figure
from dfplan.train import Trainer, checkpoint
from dfplan.train.imitate import imitation_config

SETTINGS = {"horizon": 5, "batch": 64, "warmup": 5, "save_every": 20, "log_every": 10, "precision": "fp32"}


def ramps(episodes=6, steps=25, seed=0):
    """A hand that goes to where the lamp is, at a tenth of what is left each step."""
    rng = np.random.default_rng(seed)
    x, lamp = rng.uniform(-1, 1, (episodes, 1, 2)), rng.uniform(-1, 1, (episodes, 1, 2))
    left = 0.9 ** np.arange(steps + 1)[None, :, None]
    place = (lamp + (x - lamp) * left).astype(np.float32)
    seen = np.concatenate([place[:, :-1], np.broadcast_to(lamp, (episodes, steps, 2))], -1).reshape(-1, 4)
    info = {
        "names": {"observations": ["x", "y", "lamp_x", "lamp_y"], "actions": ["x target", "y target"]},
        "units": {"observations": ["m"] * 4, "actions": ["m"] * 2},
        "groups": {"hand": [0, 2], "lamp": [2, 4]},
        "relative": {"x target": "x", "y target": "y", "lamp_x": "x", "lamp_y": "y"},
    }
    arrays = {"observations": seen.astype(np.float32), "actions": place[:, 1:].reshape(-1, 2)}
    return Episodes(arrays, np.arange(1, episodes + 1) * steps, 0.1, "ramps", info)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = imitation_config(
        ramps(60), span=2, steps=150, lr=3e-3, model={"width": 48, "layers": 1, "carrier": ""}, **SETTINGS
    )
    folder = tmp_path_factory.mktemp("judge") / "checkpoint"
    for _ in Trainer(config, ramps(60), folder).run():
        pass
    return checkpoint.load(folder)


def test_a_split_has_no_episode_twice_and_is_the_same_every_time():
    data = ramps(11)
    rest, held = data.split(0.2)
    again = data.split(0.2)[1]
    np.testing.assert_array_equal(held.arrays["actions"], again.arrays["actions"])
    assert (len(rest), len(held)) == (9, 2)
    firsts = {tuple(e.arrays["actions"][i]) for e in (rest, held) for i in e.starts}
    assert len(firsts) == 11
    for share, many in ((0.0, 5), (1.0, 5), (0.5, 1)):
        with pytest.raises(ValueError, match="expected one between 0 and 1"):
            ramps(many).split(share)


def test_rules_in_closed_form():
    slope, chunk, t = np.array([0.5, -2.0]), 4, 7
    done = np.arange(20)[:, None] * slope
    seen = np.column_stack([done[:, :2] + 3, np.zeros((20, 2))])
    data = ramps(1, 20)
    data.arrays["actions"][:] = done
    every = rules(data)
    ahead = {who: rule(seen[: t + 1], done[:t], chunk) for who, rule in every.items()}
    np.testing.assert_allclose(ahead["constant speed"], done[t : t + chunk])
    np.testing.assert_allclose(ahead["repeat"], np.tile(done[t - 1], (chunk, 1)))
    np.testing.assert_allclose(ahead["hold"], np.tile(seen[t, :2], (chunk, 1)))
    np.testing.assert_allclose(ahead["mean"], np.tile(done.mean(0), (chunk, 1)))
    for who in ("repeat", "constant speed"):  # nothing was done yet: as if it held
        np.testing.assert_allclose(every[who](seen[:1], done[:0], chunk), np.tile(seen[0, :2], (chunk, 1)))


def test_a_policy_is_better_than_the_rules_where_it_was_trained_and_not_elsewhere(model):
    held, finder = ramps(5, seed=9), Nearest(ramps(60))
    more = {"nearest": lambda seen, done, chunk: np.resize(finder.follow(seen, chunk), (chunk, 2))}
    found = judge(model, held, ImitationConfig(temperature=0.0), more)
    assert found.decisions == 5 * 6 and found.chunk == 4 and set(found.errors) > {"policy", "nearest", "mean"}
    assert found.overall("policy") < found.overall("repeat") and "better than every" in found.verdict()[0]
    assert found.without["lamp"] > 1.1  # where to cannot be known without it
    assert all(0 <= share <= 1 for share in found.inside.values())
    values = list(found.inside.values())
    assert values == sorted(values) and np.isfinite(found.where).sum() == 6
    assert len(judgement_figure(found).axes) == 3
    np.testing.assert_array_equal(
        judge(model, held, ImitationConfig(temperature=0.0)).errors["policy"], found.errors["policy"]
    )
    still = ramps(5, seed=9)
    still.arrays["actions"][:] = still.arrays["observations"][:, :2] + 0.5
    assert "NOT better" in judge(model, still, ImitationConfig(temperature=0.0)).verdict()[0]


def test_recordings_of_another_robot_are_refused(model):
    other = Episodes({"observations": np.zeros((9, 3)), "actions": np.zeros((9, 2))}, np.array([9]), 0.1)
    with pytest.raises(ValueError, match=r"got observations of shape \(3,\), expected \(4,\)"):
        judge(model, other, ImitationConfig())
    with pytest.raises(ValueError, match="no episode is as long as a chunk of 4"):
        judge(model, ramps(2, 3), ImitationConfig())


def test_train_holds_out_and_judge_plays_that(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write_npz(ramps(12), tmp_path / "ramps.npz")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["dfplan", *map(str, words)])
        capfd.readouterr()
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code, capfd.readouterr().err
        return 0, capfd.readouterr().out

    small = [f"--{key}={value}" for key, value in SETTINGS.items()]
    small += ["--steps=20", "--span=2", "--model.width=16", "--model.layers=1"]
    code, said = run("train", "imitation", "--data", "ramps.npz", "--holdout", 0.25, "--out", "mine", *small)
    assert code == 0 and "dfplan judge mine" in said
    rows = [json.loads(line) for line in (tmp_path / "mine" / "metrics.jsonl").read_text().splitlines()]
    assert ["held_out" in row for row in rows] == [False, True] and rows[1]["held_out"] > 0
    code, said = run("judge", "mine", "--json", "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert code == 0 and (tmp_path / "judgement.png").exists() and "carried out cannot be told" in said
    assert found["episodes"] == 3 and set(found["errors"]) >= {"policy", "hold", "nearest demonstration"}
    code, said = run("judge", "mine", "--data", "ramps.npz", "--episodes", 2)
    assert code == 0 and "trained on" not in said
    assert run("judge", "mine/checkpoint", "--episodes", 0)[0] == 2
    code, said = run("eval", "--data", "ramps.npz", "--checkpoint", "mine", "--json", "same.json")
    assert code == 0 and json.loads((tmp_path / "same.json").read_text())["episodes"] == 12
    code, said = run("judge", "arm-pick")
    assert code == 2 and "does not say what it was trained on" in said
    code, said = run("train", "--out", "mine", "--resume", "--holdout", 0.5, "--steps", 30)
    assert code == 2 and "began with 0.25" in said
