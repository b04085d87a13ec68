import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SIZES, XY, V, action_spec, config, position_spec, walks

from dfplan.data.episodes import Episodes
from dfplan.denoiser import self_error
from dfplan.nets.normalize import Normalizer
from dfplan.noise import NoiseSchedule
from dfplan.spec import Token, TrajectorySpec
from dfplan.train import Levels, Trainer, checkpoint
from dfplan.train.calibrate import calibrate, fit_point_mass
from dfplan.train.config import ModelConfig, to_dict
from dfplan.train.tokens import TokenWindows

DATA = walks()


def go(trainer, until=None):
    for step in trainer.run():
        if step == until:
            break
    return trainer


def same(a, b):
    """Weights, average, optimiser and random states are the same, bit for bit."""
    for x, y in ((a.model, b.model), (a.average, b.average)):
        for (name, p), q in zip(x.state_dict().items(), y.state_dict().values(), strict=True):
            assert torch.equal(p, q), name
    p, q = (t.optimizer.state_dict()["state"] for t in (a, b))
    assert p.keys() == q.keys()
    for i in p:
        assert p[i].keys() == q[i].keys() and all(torch.equal(p[i][k], q[i][k]) for k in p[i])
    mine, yours = a.batches.streams, b.batches.streams
    assert torch.equal(mine.generator, yours.generator) and mine.rng == yours.rng and a.step == b.step


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "spec": action_spec(),
            "longest_of": 2,
            "levels": Levels(1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
            "weight": "fused_snr",
        },
        {"model": ModelConfig("recurrent", 16, 1), "precision": "bf16"},
    ],
    ids=["plain", "mixed", "recurrent-bf16"],
)
def test_resume_equals_an_uninterrupted_run_bit_for_bit(tmp_path, changes):
    c = config(**changes)
    whole = go(Trainer(c, DATA, tmp_path / "whole"))
    go(Trainer(c, DATA, tmp_path / "cut"), until=10)  # last saved at 8; 9 and 10 are lost
    second = Trainer(c, DATA, tmp_path / "cut", resume=True)
    assert second.step == 8
    torch.manual_seed(99)  # the global state does not matter
    same(go(second), whole)
    a, b = (checkpoint.load(tmp_path / n) for n in ("whole", "cut"))
    assert a.calibration == b.calibration


GOLDEN = {  # of 0.1: sum and sum of squares of the averaged weights, and how the random streams end
    "plain": (35.6279301561633, 106.86608377786352, "4f2db787e4e74af9"),
    "mixed": (35.622088472496216, 106.85936735852415, "da29003c81c69a1f"),
    "recurrent": (3.926517031658477, 85.52253259607009, "4f2db787e4e74af9"),
    "history": (28.445806065482884, 62.65574354145714, "5126eaa98fc08030"),
}
RUNS = {
    "plain": config(),
    "mixed": config(
        action_spec(), longest_of=2, levels=Levels(1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5), weight="fused_snr"
    ),
    "recurrent": config(model=ModelConfig("recurrent", 16, 1)),
    "history": config(
        action_spec(),
        levels=Levels(0.1, 0.6, 0.3, start_known=0.0, history=0.95, memory=3, doubt=0.2, committed=0.3),
        model=ModelConfig("perceptron", 16, 1, fine=20.0),
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_learns_what_it_learned_in_0_1(tmp_path, name):
    """Weights to rounding, which differs from processor to processor; the streams' use exactly."""
    trainer = go(Trainer(RUNS[name], DATA, tmp_path / "run"))
    weights = torch.cat([p.double().flatten() for p in trainer.average.parameters()])
    total, square, ends = GOLDEN[name]
    assert float(weights.sum()) == pytest.approx(total, rel=1e-4)
    assert float(weights.square().sum()) == pytest.approx(square, rel=1e-5)
    streams = trainer.batches.streams
    said = hashlib.sha256(streams.generator.numpy().tobytes() + str(streams.rng["state"]["state"]).encode())
    assert said.hexdigest()[:16] == ends


def test_the_next_batch_is_drawn_while_a_step_is_computed(tmp_path):
    trainer, drawn, both = Trainer(config(), DATA, tmp_path / "run"), [], threading.Event()
    real = trainer.windows.draw

    def draw(*given):
        drawn.append(threading.current_thread())
        if len(drawn) == 2:
            both.set()
        return real(*given)

    trainer.windows.draw = draw
    trainer.batches.draw()
    assert both.wait(20) and threading.main_thread() not in drawn


def test_the_average_remembers_no_graph(tmp_path):
    trainer = go(Trainer(config(steps=2), DATA, tmp_path / "run"))
    assert not any(p.requires_grad or p.grad_fn for p in trainer.average.parameters())


def test_what_goes_wrong_with_a_batch_is_said_by_the_step(tmp_path):
    trainer = Trainer(config(), DATA, tmp_path / "run")
    trainer.train_step()
    trainer.windows.draw = lambda *given: 1 / 0
    with pytest.raises(ZeroDivisionError):
        for _ in range(3):
            trainer.train_step()


def test_the_second_trainer_in_a_folder_is_refused_and_told_who_has_it(tmp_path):
    running = Trainer(config(), DATA, tmp_path / "run").run()
    next(running)
    for when in range(2):
        with pytest.raises(ValueError, match=rf"run is being trained by process {os.getpid()} on \S+; wait"):
            Trainer(config(), DATA, tmp_path / "run", resume=bool(when))
        for _ in range(4):
            next(running)
    late = Trainer(config(), DATA, tmp_path / "late")
    early = Trainer(config(), DATA, tmp_path / "late").run()
    next(early)
    with pytest.raises(ValueError, match="being trained by process"):
        next(late.run())
    early.close()
    assert next(late.run()) == 1
    assert list(running)[-1] == 12
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


SCRIPT = """
import sys
import torch
from tiny import config, walks
from dfplan.train import Trainer
torch.set_num_threads(1)
for step in Trainer(config(steps=30), walks(), sys.argv[1]).run():
    print(step, flush=True)
    if step == 17:
        sys.stdin.read()  # held here until killed
"""


def test_killed_process_resumes_to_the_same_weights(tmp_path):
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "killed")]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.strip() == "17":
                break
        with pytest.raises(ValueError, match=rf"being trained by process {process.pid} on"):
            Trainer(config(steps=30), DATA, tmp_path / "killed", resume=True)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    c = config(steps=30)
    resumed = Trainer(c, DATA, tmp_path / "killed", resume=True)
    assert resumed.step == 16
    same(go(resumed), go(Trainer(c, DATA, tmp_path / "whole")))


def test_killed_between_renames_resumes(tmp_path):
    go(Trainer(config(), DATA, tmp_path / "run"), until=8)
    os.replace(tmp_path / "run", tmp_path / ".run.old")
    assert Trainer(config(), DATA, tmp_path / "run", resume=True).step == 8


def test_existing_folder_needs_resume_and_resume_needs_a_folder(tmp_path):
    with pytest.raises(ValueError, match="nothing to resume"):
        Trainer(config(), DATA, tmp_path / "run", resume=True)
    go(Trainer(config(), DATA, tmp_path / "run"), until=4)
    with pytest.raises(ValueError, match=r"run exists; pass --resume"):
        Trainer(config(), DATA, tmp_path / "run")
    os.replace(tmp_path / "run", tmp_path / ".run.old")  # killed between renames: still there
    with pytest.raises(ValueError, match="exists"):
        Trainer(config(), DATA, tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.5}, {"batch": 9}, {"seed": 3}, {"horizon": 5},
        {"model": ModelConfig(width=8, layers=1, heads=2)}, {"levels": Levels()},
        {"spec": position_spec(stride=2)},
    ],
    ids=lambda c: next(iter(c)),
)  # fmt: skip
def test_resume_with_other_settings_names_the_field(tmp_path, change):
    go(Trainer(config(), DATA, tmp_path / "run"), until=4)
    (field,) = change
    with pytest.raises(ValueError, match=f"other settings: .*'{field}'") as error:
        Trainer(config(**change), DATA, tmp_path / "run", resume=True)
    others = set(to_dict(config())) - {field}
    assert not any(f"'{name}': (" in str(error.value) for name in others)


def test_a_run_may_be_extended_and_saved_at_other_steps(tmp_path):
    go(Trainer(config(), DATA, tmp_path / "run"))
    longer = config(steps=20, save_every=3, keep_every=5, log_every=2, act={"policy": {"chunk": 4}})
    resumed = Trainer(longer, DATA, tmp_path / "run", resume=True)
    assert (resumed.step, go(resumed).step) == (12, 20)
    again = checkpoint.load(tmp_path / "run")
    assert again.config == longer and again.act == {"policy": {"chunk": 4}}
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == ["0000015", "0000020"]
    with pytest.raises(ValueError, match=r"got steps=19, but .*run is at step 20"):
        Trainer(config(steps=19), DATA, tmp_path / "run", resume=True)


def test_resume_with_other_data_is_refused(tmp_path):
    go(Trainer(config(), DATA, tmp_path / "run"), until=4)
    with pytest.raises(ValueError):
        Trainer(config(), walks(seed=9, gain=2.0), tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    "name", ["training.safetensors", "training.json", "config.json", "model.safetensors"]
)
def test_resume_from_damage_names_the_file(tmp_path, name):
    go(Trainer(config(), DATA, tmp_path / "run"), until=4)
    path = tmp_path / "run" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        Trainer(config(), DATA, tmp_path / "run", resume=True)


def test_resume_of_an_exported_model_is_refused(tmp_path):
    go(Trainer(config(), DATA, tmp_path / "run"), until=4)
    checkpoint.export(tmp_path / "run", tmp_path / "small")
    with pytest.raises(ValueError, match=r"training\.safetensors"):
        Trainer(config(), DATA, tmp_path / "small", resume=True)


def test_finished_run_resumes_to_nothing(tmp_path):
    go(Trainer(config(), DATA, tmp_path / "run"))
    assert list(Trainer(config(), DATA, tmp_path / "run", resume=True).run()) == []


def test_saves_every_so_often_and_at_the_end(tmp_path):
    seen = {}
    for step in Trainer(config(steps=10), DATA, tmp_path / "run").run():
        path = tmp_path / "run" / "training.json"
        seen[step] = json.loads(path.read_text())["step"] if path.exists() else None
    assert seen == {1: None, 2: None, 3: None, 4: 4, 5: 4, 6: 4, 7: 4, 8: 8, 9: 8, 10: 10}


@pytest.mark.parametrize("parameterisation", ["x0", "eps", "v"])
def test_training_lowers_the_loss(tmp_path, parameterisation):
    model = ModelConfig(width=32, layers=1, heads=2, parameterisation=parameterisation)
    c = config(model=model, steps=150, batch=32, save_every=1000, lr=3e-3, warmup=10)
    trainer, losses = Trainer(c, DATA, tmp_path / "run"), []
    while trainer.step < c.steps:
        losses.append(float(trainer.train_step()["loss"]))
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:5])


def test_same_seed_same_run_and_another_seed_another(tmp_path):
    a, b, c = (
        go(Trainer(config(seed=s, steps=4), DATA, tmp_path / name)).model.state_dict()
        for s, name in ((0, "a"), (0, "b"), (1, "c"))
    )
    assert all(torch.equal(a[k], b[k]) for k in a) and any(not torch.equal(a[k], c[k]) for k in a)


def test_learning_rate_warms_up_and_falls_to_zero(tmp_path):
    trainer = Trainer(config(steps=100, warmup=10, lr=1.0), DATA, tmp_path / "run")
    rates = []
    for trainer.step in range(101):
        rates.append(trainer.learning_rate())
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert rates[10] == 1 and rates[100] == pytest.approx(0, abs=1e-9) and rates[55] == pytest.approx(0.5)
    assert (np.diff(rates[10:]) < 0).all()


def test_log_gets_finite_numbers_and_a_diverged_run_stops(tmp_path):
    lines = []
    go(Trainer(config(steps=10), DATA, tmp_path / "run"))
    list(
        Trainer(config(steps=10), DATA, tmp_path / "log").run(
            lambda step, values: lines.append((step, values))
        )
    )
    assert [s for s, _ in lines] == [4, 8, 10]
    assert all(math.isfinite(v) for _, values in lines for v in values.values())
    assert {"loss", "grad_norm", "lr", "steps_per_s"} <= set(lines[0][1])
    broken = Trainer(config(steps=10), DATA, tmp_path / "nan")
    broken.model.backbone.head.weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="lower lr"):
        list(broken.run(lambda *_: None))


def test_tokens_of_a_step_often_get_levels_of_their_own(tmp_path):
    trainer = Trainer(config(action_spec(), batch=256, levels=Levels()), DATA, tmp_path / "run")
    level = trainer.batches.draw()[1].unflatten(1, (6, 2))
    noisy = (level > 0).all(-1)
    apart = (level[..., 0] != level[..., 1])[noisy].float().mean()
    assert 0.4 < apart < 0.6
    assert (level[:, 0] == 0).all(-1).float().mean() > 0.3  # a known start is often known whole


def test_padding_channels_come_out_as_zero_after_training(tmp_path):
    """Narrow tokens are zero-padded in training, so a plan must keep feeding the network zeros there."""
    spec = TrajectorySpec(XY + V[:1], (Token("position", ("x", "y")), Token("v", ("vx",))), 0.1, **SIZES)
    c = config(spec, model=ModelConfig(width=32, layers=1, heads=2), steps=150, batch=32, lr=3e-3)
    trainer = Trainer(c, DATA, tmp_path / "run")
    while trainer.step < c.steps:
        trainer.train_step()
    x, level, noise, *_ = trainer.batches.draw()
    with torch.no_grad():
        out = trainer.model(c.model.noise.add_noise(x, level, noise), level)
    assert (x[:, 1::2, 1] == 0).all()
    assert out[:, 1::2, 1].square().mean().sqrt() < 0.4


def test_dynamics_are_recovered_from_data_with_contacts():
    data = walks(10, 50, keep=0.85, gain=0.4)
    data.arrays["observations"][::25, 2:] = 0  # contacts stop it
    found = fit_point_mass(data)
    assert found["keep"] == pytest.approx(0.85, abs=1e-3) and found["gain"] == pytest.approx(0.4, abs=1e-3)
    speed = np.quantile(np.abs(data.arrays["observations"][:, 2:]), 0.999)
    assert found["speed"] == pytest.approx(speed, rel=1e-5)


def test_dynamics_do_not_mix_episodes():
    data = walks(200, 2, keep=0.85, gain=0.4)
    found = fit_point_mass(data)
    assert found["gain"] == pytest.approx(0.4, abs=1e-3)


def test_no_dynamics_where_there_are_none():
    assert fit_point_mass(Episodes({"observations": np.zeros((5, 4))}, np.array([5]), 0.1)) is None
    arrays = {"observations": np.zeros((5, 3)), "actions": np.zeros((5, 2))}
    assert fit_point_mass(Episodes(arrays, np.array([5]), 0.1)) is None


def test_self_error_is_the_worst_token_and_zero_for_an_oracle():
    x, known = torch.randn(3, 5, 2), torch.zeros(3, 5, dtype=torch.bool)
    assert (self_error(lambda y, level: x, NoiseSchedule(), x, known, lambda: torch.randn_like(x)) == 0).all()
    offset = torch.zeros(3, 5, 2)
    offset[1, 2] = torch.tensor([1.0, 3.0])
    got = self_error(lambda y, level: x + offset, NoiseSchedule(), x, known, lambda: torch.randn_like(x))
    torch.testing.assert_close(got, torch.tensor([0.0, 5.0, 0.0]))


def test_self_error_shows_known_tokens_clean():
    x, known = torch.randn(2, 4, 2), torch.tensor([[True, False, False, True]] * 2)

    def check(y, level):
        assert (y[known] == x[known]).all() and (level[known] == 0).all() and (level[~known] > 0).all()
        return x

    self_error(check, NoiseSchedule(), x, known, lambda: torch.randn_like(x))


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_calibrated_step_is_the_distance_between_steps(stack):
    """A point that moves (0.3, 0.4) per env step moves 1 in two, however many frames a token has."""
    rows = np.zeros((400, 4), np.float32)
    rows[:, 0], rows[:, 1] = 0.3 * np.arange(400), 0.4 * np.arange(400)
    data = Episodes({"observations": rows}, np.array([400]), 0.1)
    spec = position_spec(stack=stack, stride=2)
    normalizer = Normalizer.fit(spec, data)
    found = calibrate(
        lambda x, level: x, normalizer, TokenWindows(spec, 6, data, normalizer), config(spec), "cpu"
    )
    assert found["step"] == pytest.approx(1.0, abs=1e-3)


def test_a_run_begins_with_the_weights_and_scales_of_another_model(tmp_path):
    go(Trainer(config(steps=2), DATA, tmp_path / "first"))
    first, other = checkpoint.load(tmp_path / "first"), walks(seed=5)
    c = config(begin="first", steps=3, save_every=2)
    trainer = Trainer(c, other, tmp_path / "second", begin=first)
    for name, value in first.denoiser.state_dict().items():
        assert torch.equal(trainer.model.state_dict()[name], value)
        assert torch.equal(trainer.average.state_dict()[name], value)
    assert torch.equal(trainer.normalizer.mean, first.normalizer.mean)
    whole = go(trainer)
    go(Trainer(c, other, tmp_path / "cut", begin=first), until=2)
    same(go(Trainer(c, other, tmp_path / "cut", resume=True)), whole)  # needs `first` no more
    for given, model in ((config(), first), (c, None)):
        with pytest.raises(ValueError, match="give both or none"):
            Trainer(given, DATA, tmp_path / "third", begin=model)
