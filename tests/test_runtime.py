"""An exported policy acts as the one it was made of, where there is no torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("onnxscript", reason="pip install 'dfplan[onnx]'")
pytest.importorskip("onnxruntime", reason="pip install 'dfplan[runtime]'")

from dfplan import cli, envs, runtime
from dfplan.act import Actor, ImitationConfig
from dfplan.data import Episodes
from dfplan.decide import Sampling, sampling
from dfplan.deploy import CommittedPolicy, History
from dfplan.deploy.loop.committed import ACT
from dfplan.policies import Imitation
from dfplan.runtime.noise import generator_of, normal
from dfplan.sampling import STEPS
from dfplan.schedules import SCHEDULES
from dfplan.train import checkpoint
from dfplan.train.imitate import imitation_config
from dfplan.train.trainer import Trainer

SPAN, CLOSE = 3, 1e-4
KINDS = {
    "window": {"model": {"carrier": ""}, "act": {"policy": {"step": "dpm_solver_2m", "chunk": 3}}},
    "attention": {"model": {"carrier": "attention"}, "act": {"policy": {"doubt": 0.3, "stabilise": 0.1}}},
    "recurrent": {"model": {"carrier": "recurrent"}, "act": {"policy": {"temperature": 0.0}}},
    "compressed": {"model": {"carrier": "compressed"}, "act": {"policy": {"history_guidance": 0.5}}},
    "causal": {
        "model": {"kind": "transformer", "causal": True, "layers": 1, "carrier": ""},
        "act": {"policy": {"schedule": "pyramid", "step": "ddpm", "steps": 3}},
    },
}
WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "safetensors"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Without())
"""


def demos(lengths=(60, 83, 47)):
    walk = np.random.default_rng(0).normal(size=(sum(lengths), 3)).cumsum(0)
    info = {
        "names": {"observations": ["x", "y", "lamp"], "actions": ["x target", "y target"]},
        "groups": {"robot": [0, 2], "lamp": [2, 3]},
        "relative": {"x target": "x", "lamp": "y"},
    }
    arrays = {"observations": walk.astype(np.float32), "actions": (walk[:, :2] + 0.3).astype(np.float32)}
    return Episodes(arrays, np.cumsum(lengths), 0.1, "walks", info)


def trained(folder, model, **settings):
    config = imitation_config(
        demos(), span=SPAN, horizon=4, steps=4, batch=32, warmup=1, save_every=4, precision="fp32", lr=0.05,
        model={"width": 32, "layers": 2, "heads": 2, "carried": 16, **model}, levels={"doubt": 0.5}, **settings,
    )  # fmt: skip
    for _ in Trainer(config, demos(), folder).run():
        pass
    return folder


def dfplan(capsys, *words):
    """Exit code and what was printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["dfplan", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """A checkpoint, and the folder that the command made of it."""
    folder = tmp_path_factory.mktemp(request.param)
    trained(folder / "run", **KINDS[request.param])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["dfplan", "export", str(folder / "run"), "--out", str(folder / "out")])
        cli.main()
    return folder / "run", folder / "out"


def episode(policy, seeds, count=70):
    """Actions of robots beside each other, some readings doubtful, some of the time driven by somebody else."""
    policy.reset(seeds)
    seen, out, done = np.asarray(demos().arrays["observations"][:count], np.float64), [], None
    for i in range(count):
        now = np.stack([seen[i] * (1 + 0.1 * b) for b in range(len(seeds))])
        told = [["lamp"] if 10 <= i < 16 else []] * len(seeds)
        if i in (30, 31):
            policy.observe(now, told, executed=done)
            done = now[:, :2]
            continue
        out.append(policy.act(now, told, executed=done))
        done = now[:, :2] if i == 50 else None
    return np.stack(out)


def test_whole_episodes_are_the_same_with_the_same_seeds(pair):
    run, out = pair
    with_torch, without = Imitation.load(run), runtime.load(out)
    expected, got = episode(with_torch, [3, 8]), episode(without, [3, 8])
    assert np.abs(expected - got).max() < CLOSE
    assert np.abs(expected[:, 0] - expected[:, 1]).max() > 100 * CLOSE
    assert with_torch.clipped == pytest.approx(without.clipped, abs=0.02)
    with_torch.reset(1)
    without.reset(1)
    assert np.abs(with_torch.predict(np.ones(3)) - without.predict(np.ones(3))).max() < CLOSE


@pytest.mark.parametrize("show", ["clean", "noised"])
def test_on_an_arm_they_are_the_same_whatever_is_committed(pair, show):
    run, out = pair
    without = runtime.Actor.load(out, ImitationConfig(**ACT))
    with_torch = Actor(checkpoint.load(run), without.config)
    one, other = (CommittedPolicy(actor, show) for actor in (with_torch, without))
    seen = np.asarray(demos().arrays["observations"][:40], np.float64)
    done = np.asarray(demos().arrays["actions"][:40], np.float64)
    for now in range(1, 40, 3):
        past = History(seen[:now], ((),) * now, done[: now - 1], now - 1)
        committed = done[now - 1 : now - 1 + now % 6]
        expected, got = one.decide(past, committed), other.decide(past, committed)
        assert expected.shape == got.shape and np.abs(expected - got).max() < CLOSE


def test_a_seed_draws_the_same_noise_with_and_without_torch():
    for seed, shape in ((0, (24, 40)), (7, (3, 7, 5)), (2**40 + 5, (16,)), (1, (33,))):
        theirs, ours = torch.Generator().manual_seed(seed), generator_of(seed)
        for _ in range(3):
            expected = torch.randn(shape, generator=theirs).numpy()
            np.testing.assert_allclose(normal(ours, *shape), expected, atol=2e-5)
    assert normal(generator_of(0), 3).shape == (3,)


def test_settings_know_the_names_of_what_torch_runs():
    for known, names in ((SCHEDULES, "_SCHEDULES"), (STEPS, "_STEPS")):
        assert list(known) == list(vars(sampling)[names])
    assert Sampling().matrix(3).calls == 4


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """arm-pick as the command writes it."""
    out = tmp_path_factory.mktemp("arm") / "out"
    words = ["export", "arm-pick", "--out", str(out), "--steps", "3"]
    done = subprocess.run([sys.executable, "-m", "dfplan.cli", *words], capture_output=True, text=True)
    assert done.returncode == 0 and "policy.onnx" in done.stdout, done.stderr
    return out


def run_without_torch(code, *words):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_shipped_policy_drives_the_same_episode_where_there_is_no_torch(arm, tmp_path):
    env, policy = envs.make("arm-pick", action="ee"), Imitation.load("arm-pick", runtime.read(arm).act)
    observation, info = env.reset(seed=1)
    policy.reset(1)
    seen, acted, over = [], [], False
    while not over:
        seen.append(observation)
        acted.append(policy.act(observation, info["doubtful"]))
        observation, _, terminated, truncated, info = env.step(acted[-1])
        over = terminated or truncated
    assert len(acted) > 40
    np.save(tmp_path / "seen.npy", np.stack(seen))
    code = """
import numpy as np
from dfplan import runtime
policy = runtime.load(sys.argv[1])
policy.reset(1)
np.save(sys.argv[3], np.stack([policy.act(o) for o in np.load(sys.argv[2])]))
print(sorted(name for name in sys.modules if "." not in name))
"""
    loaded = run_without_torch(code, arm, tmp_path / "seen.npy", tmp_path / "acted.npy")
    assert np.abs(np.load(tmp_path / "acted.npy") - np.stack(acted)).max() < CLOSE
    others = ["torch", "onnx", "gymnasium", "mujoco", "scipy", "h5py", "matplotlib", "tyro"]
    assert "'onnxruntime'" in loaded and not [name for name in others if f"'{name}'" in loaded]


def test_the_command_deploys_where_there_is_no_torch(arm):
    pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")
    code = """
sys.argv = ["dfplan", *sys.argv[1:]]
from dfplan.cli import main
main()
assert "torch" not in sys.modules
"""
    words = "--runtime onnx --transport dry-run --robot arm-pick --seconds 3 --worker thread --arm".split()
    assert "sent" in run_without_torch(code, "deploy", "--policy", arm, *words)
    code = """
from dfplan.cli import main
for words in (["train", "arm-pick"], sys.argv[1:]):
    sys.argv = ["dfplan", *words]
    try:
        main()
    except SystemExit as stop:
        assert stop.code == 2
"""
    words = [
        "deploy",
        "--policy",
        "arm-pick",
        "--transport",
        "dry-run",
        "--robot",
        "arm-pick",
        "--worker",
        "thread",
    ]
    done = subprocess.run([sys.executable, "-c", WITHOUT + code, *words], capture_output=True, text=True)
    assert "without what dfplan depends on there is `dfplan deploy` alone" in done.stderr
    assert "arm-pick is no folder that `dfplan export` wrote" in done.stderr and done.returncode == 0


@pytest.mark.parametrize(
    "words, why",
    [
        (["arm-reach"], "guidance=100.0, which cannot be exported: guidance needs gradients"),
        (["maze2d-umaze"], "a policy needs observation tokens"),
        (["arm-pik"], "did you mean 'arm-pick'"),
        (["arm-pick", "--steps=-1"], "expected 1 or more"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_name(capsys, tmp_path, words, why):
    code, said = dfplan(capsys, "export", *words, "--out", tmp_path / "out")
    assert code == 2 and why in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "settings", [{"stream": True}, {"precision": "bf16"}, {"step": "dfplan.sampling:ddim"}]
)
def test_ways_of_acting_that_a_graph_has_not_are_refused(capsys, tmp_path, settings):
    run = trained(tmp_path / "run", {"carrier": ""}, act={"policy": settings})
    code, said = dfplan(capsys, "export", run, "--out", tmp_path / "out")
    assert code == 2 and f"{next(iter(settings))}=" in said and "cannot be exported" in said


def test_other_folders_are_left_alone_and_told_from_exported_ones(capsys, tmp_path, arm):
    (tmp_path / "mine").write_text("")
    code, said = dfplan(capsys, "export", "arm-pick", "--out", tmp_path)
    assert code == 2 and "left alone" in said and (tmp_path / "mine").exists()
    with pytest.raises(ValueError, match="expected a folder written by `dfplan export`"):
        runtime.load(tmp_path)
    link = ["--transport", "dry-run", "--robot", "arm-pick"]
    for policy, which in (("arm-pick", "onnx"), (arm, "torch")):
        code, said = dfplan(capsys, "deploy", "--policy", policy, "--runtime", which, *link)
        assert code == 2 and f"--runtime {which}" in said
    code, said = dfplan(capsys, "deploy", "--policy", arm, "--threads", 2, *link)
    assert code == 2 and "one thread" in said


def test_what_is_in_the_graph_cannot_be_asked_for_otherwise(arm, tmp_path):
    assert runtime.load(arm).config.steps == runtime.load(arm, ImitationConfig(recent=1)).config.steps == 3
    with pytest.raises(ValueError, match="exported with steps=3"):
        runtime.load(arm, ImitationConfig(steps=2))
    meta = json.loads((arm / "policy.json").read_text())
    for change, why in (({"format": 9}, "format 9"), ({"train": {}}, "damaged")):
        (tmp_path / "policy.json").write_text(json.dumps({**meta, **change}))
        with pytest.raises(ValueError, match=why):
            runtime.load(tmp_path)
    (tmp_path / "policy.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"policy\.onnx is missing"):
        runtime.load(tmp_path)
    (tmp_path / "policy.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match="export the model anew"):
        runtime.load(tmp_path)
