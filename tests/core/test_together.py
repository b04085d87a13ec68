"""Training in two real processes against training in one."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import action_spec, config, walks

from dfplan.train import Levels, Trainer
from dfplan.train.batches import part
from dfplan.train.config import ModelConfig
from dfplan.train.together import together

DATA = walks()
LEVELS = Levels(
    0.1, 0.4, 0.2, masked=0.3, start_known=0.0, history=0.95, memory=3, masked_tail=0.5, forget=0.1
)
NETWORK = ModelConfig("perceptron", 16, 1, fine=20.0, carrier="compressed", carried=8, heads=2, reach=8)
RUNS = {
    "windows": config(action_spec(), levels=Levels(1.0, 0.5, next_token=0.5), weight="fused_snr", clip=0.1),
    "memory": config(action_spec(), goal_token="", levels=LEVELS, per_episode=2, through=4, model=NETWORK),
}
LOSS, WEIGHT = 1e-5, 1e-4
"""How far losses and weights of these runs may be from those of one process."""

SCRIPT = """
import json, os, signal, sys
from dataclasses import replace
import torch
from test_together import DATA, RUNS
from dfplan.train import Trainer
from dfplan.train.together import Together, together

torch.set_num_threads(1)
others, out = together("cpu"), sys.argv[1]


def losses(trainer):
    step, found = trainer.train_step, []
    def watched():
        found.append(step())
        return found[-1]
    trainer.train_step = watched
    return found


def train(name, until, resume, who):
    trainer = Trainer(RUNS[name], DATA, f"{out}/{name}", resume=resume, others=who)
    found = losses(trainer)
    for step in trainer.run():
        if step == until:
            break
    return [float(m["loss"]) for m in found], [float(m["grad_norm"]) for m in found]


if sys.argv[2] == "change":  # two processes, then one, then two
    said = {}
    for name in RUNS:
        parts = [train(name, 5, False, others)]
        if others.first:
            parts.append(train(name, 8, True, Together()))
        others.wait()
        parts.append(train(name, None, True, others))
        said[name] = parts
    tries = (replace(RUNS["windows"], batch=9), DATA), (RUNS["windows"], DATA.split(0.5)[others.rank])
    for config, data in tries:
        try:
            Trainer(config, data, f"{out}/refused", others=others)
        except ValueError as error:
            said.setdefault("refused", []).append(str(error))
    with open(f"{out}/{others.rank}.json", "w") as file:
        json.dump(said, file)
    others.end()
else:
    for step in Trainer(RUNS["memory"], DATA, f"{out}/memory", others=others).run():
        if step == 6 and others.first:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def environment(**more):
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | more


def alone(name, folder, **changes):
    """Losses, gradient norms and the trainer of a run in one process."""
    trainer = Trainer(replace(RUNS[name], **changes), DATA, folder)
    found = [trainer.train_step() for _ in range(trainer.config.steps)]
    return [float(m["loss"]) for m in found], [float(m["grad_norm"]) for m in found], trainer


def near(a, b):
    for x, y in ((a.model, b.model), (a.average, b.average)):
        for (name, p), q in zip(x.state_dict().items(), y.state_dict().values(), strict=True):
            assert torch.allclose(p, q, rtol=0, atol=WEIGHT), (name, (p - q).abs().max())


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """Runs in two processes, in one from step 4, in two again from step 8; and what is refused."""
    pytest.importorskip("accelerate", reason="pip install 'dfplan[distributed]'")
    out = tmp_path_factory.mktemp("changed")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    (out / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [*command, out / "script.py", out, "change"], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out, [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_learn_what_one_learns_and_a_run_may_change_between_them(tmp_path, changed, name):
    out, (first, second) = changed[0], (said[name] for said in changed[1])
    losses, norms, whole = alone(name, tmp_path / "whole")
    assert np.std(losses) > 0.01 and max(norms) > RUNS[name].clip  # else there is nothing to compare
    begins = (0, 4, 8)  # a run ends at step 5 or 8 and is saved every 4
    for begin, (loss, norm) in zip(begins, first, strict=True):
        np.testing.assert_allclose(loss, losses[begin : begin + len(loss)], rtol=0, atol=LOSS)
        np.testing.assert_allclose(norm, norms[begin : begin + len(loss)], rtol=1e-4)
    assert [len(loss) for loss, _ in first] == [5, 4, 4] and second == [first[0], first[2]]
    resumed = Trainer(RUNS[name], DATA, out / name, resume=True)
    assert resumed.step == 12
    near(resumed, whole)
    assert json.loads((out / name / "training.json").read_text())["rng"] == whole.batches.streams.rng
    assert sorted(p.name for p in out.iterdir()) == ["0.json", "1.json", "memory", "script.py", "windows"]


def test_what_does_not_go_together_is_refused_in_every_process(changed):
    for rank, said in enumerate(changed[1]):
        odd, other = said["refused"]
        assert "got batch=9 for 2 processes with accumulate=1, expected a multiple of 2 (" in odd
        assert f"process {rank} of 2 got other weights, steps or data than the others" in other


def test_the_writer_that_is_killed_ends_the_other_and_leaves_a_run_that_goes_on(tmp_path):
    """Started by hand: torchrun would end the other one itself."""
    pytest.importorskip("accelerate", reason="pip install 'dfplan[distributed]'")
    (tmp_path / "script.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = [
        subprocess.Popen(
            [sys.executable, tmp_path / "script.py", tmp_path, "kill"],
            env=environment(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank)),
            stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=600)[1] for process in both]  # not for ever, if one hangs
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [-9, 1]
    assert "ConnectionError: process 1 of 2 lost another (" in said[1]
    resumed = Trainer(RUNS["memory"], DATA, tmp_path / "memory", resume=True)
    assert resumed.step == 4
    for _ in resumed.run():
        pass
    near(resumed, alone("memory", tmp_path / "whole")[2])


@pytest.mark.parametrize("name", RUNS)
def test_a_batch_in_pieces_gives_the_same_losses_and_weights(tmp_path, name):
    losses, norms, whole = alone(name, tmp_path / "whole")
    parts = alone(name, tmp_path / "parts", accumulate=4)
    np.testing.assert_allclose(parts[0], losses, rtol=0, atol=LOSS)
    np.testing.assert_allclose(parts[1], norms, rtol=1e-4)
    near(parts[2], whole)


def test_a_run_may_be_resumed_in_other_pieces(tmp_path):
    for step in Trainer(RUNS["memory"], DATA, tmp_path / "run").run():
        if step == 4:
            break
    resumed = Trainer(replace(RUNS["memory"], accumulate=2), DATA, tmp_path / "run", resume=True)
    assert resumed.step == 4
    resumed.train_step()


def test_parts_that_score_less_count_less(tmp_path):
    """A mean of the parts' means would be another loss."""
    trainer = Trainer(RUNS["windows"], DATA, tmp_path / "run")
    batch = trainer.batches.draw()
    batch = batch._replace(scored=batch.scored * torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 1])[:, None, None])
    shares = [float(part(batch, index, 4)[1]) for index in range(4)]
    assert sum(shares) == pytest.approx(1) and shares[2] == 0 and len(set(shares)) > 2


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"accumulate": 3}, r"got batch=8 for 1 processes with accumulate=3, expected a multiple of 6 "),
        ({"accumulate": 0}, r"got accumulate=0, expected a number above 0"),
        ({"accumulate": 8}, r"accumulate=8, expected a multiple of 16 \(processes, accumulate, per_episode\)"),
    ],
)  # fmt: skip
def test_pieces_that_do_not_fit_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(RUNS["memory"], **changes)


def test_a_device_with_a_number_and_too_few_gpus_are_refused(monkeypatch):
    pytest.importorskip("accelerate", reason="pip install 'dfplan[distributed]'")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"got device 'cuda:1' for 2 processes, expected 'cuda'"):
        together("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"got 2 processes and 1 GPUs, .* pass --nproc-per-node 1"):
        together("cuda")
