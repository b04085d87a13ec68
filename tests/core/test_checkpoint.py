import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import action_spec, config, walks

from dfplan.train import checkpoint
from dfplan.train.trainer import Trainer

DATA = walks()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished tiny run: its folder and trainer."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    trainer = Trainer(config(action_spec()), DATA, folder)
    list(trainer.run())
    return folder, trainer


@pytest.fixture
def run(trained, tmp_path):
    """A copy that a test may break."""
    return shutil.copytree(trained[0], tmp_path / "run")


def outputs(denoiser, spec, horizon):
    g = torch.Generator().manual_seed(0)
    tokens = horizon * spec.group_size
    with torch.no_grad():
        return denoiser(torch.randn(3, tokens, spec.width, generator=g), torch.rand(3, tokens, generator=g))


def test_load_gives_what_was_saved(trained):
    folder, trainer = trained
    model = checkpoint.load(folder)
    spec, horizon = trainer.config.spec, trainer.config.horizon
    assert model.config == trainer.config
    assert (outputs(model.denoiser, spec, horizon) == outputs(trainer.average, spec, horizon)).all()
    assert (model.normalizer.mean == trainer.normalizer.mean).all()
    assert (model.normalizer.scale == trainer.normalizer.scale).all()
    assert not model.denoiser.training and not any(p.requires_grad for p in model.denoiser.parameters())
    assert set(model.calibration) == {"self_error", "step", "dynamics"}


def test_how_a_model_acts_is_a_table_of_its_own(run):
    assert checkpoint.load(run).act == {}
    edit(run / "config.json", act={"policy": {"chunk": 8, "schedule": "full"}})
    assert checkpoint.load(run).act == {"policy": {"chunk": 8, "schedule": "full"}}
    meta = json.loads((run / "config.json").read_text())
    del meta["act"]  # as 0.1 wrote it
    (run / "config.json").write_text(json.dumps(meta))
    assert checkpoint.load(run).act == {}
    edit(run / "config.json", act=[1])
    with pytest.raises(ValueError, match=r"config\.json\.act: got \[1\], expected a table"):
        checkpoint.load(run)


def test_what_is_saved_for_use_is_the_average(trained):
    folder, trainer = trained
    average = checkpoint.load(folder).denoiser.state_dict()
    raw = trainer.model.state_dict()
    assert any((average[k] != raw[k]).any() for k in raw)


def test_folder_holds_safetensors_and_json_alone(trained):
    folder, _ = trained
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json", "evidence.safetensors", "model.safetensors", "training.json", "training.safetensors",
    ]  # fmt: skip
    assert list(folder.parent.iterdir()) == [folder]  # nothing hidden is left beside it
    for path in folder.glob("*.json"):
        json.loads(path.read_text())


def test_export_halves_the_file_and_loads(trained, tmp_path):
    folder, trainer = trained
    checkpoint.export(folder, tmp_path / "small")
    assert sorted(p.name for p in (tmp_path / "small").iterdir()) == [
        "config.json", "evidence.safetensors", "model.safetensors",
    ]  # fmt: skip
    full, half = (
        sum(v.nbytes for v in load_file(f / "model.safetensors").values())
        for f in (folder, tmp_path / "small")
    )
    assert 0.45 < half / full < 0.55
    small = checkpoint.load(tmp_path / "small")
    spec, horizon = trainer.config.spec, trainer.config.horizon
    torch.testing.assert_close(
        outputs(small.denoiser, spec, horizon), outputs(trainer.average, spec, horizon), rtol=0, atol=1e-2
    )
    assert {p.dtype for p in small.denoiser.parameters()} == {torch.float32}
    assert (small.normalizer.scale == trainer.normalizer.scale).all()
    assert small.calibration == checkpoint.load(folder).calibration


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def first_to_nan(tensors):
    tensors["denoiser.backbone.head.weight"][0, 0] = float("nan")


BREAK = {
    "truncated weights": lambda f: truncate(f / "model.safetensors"),
    "empty weights": lambda f: (f / "model.safetensors").write_bytes(b""),
    "pickle": lambda f: torch.save({"a": torch.ones(1)}, f / "model.safetensors"),
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "truncated config": lambda f: truncate(f / "config.json"),
    "binary config": lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00\x80"),
    "list config": lambda f: (f / "config.json").write_text("[]"),
    "config without train": lambda f: (f / "config.json").write_text('{"format": 1}'),
    "config without calibration": lambda f: (f / "config.json").write_text(
        json.dumps(
            {k: v for k, v in json.loads((f / "config.json").read_text()).items() if k != "calibration"}
        )
    ),
    "no config": lambda f: (f / "config.json").unlink(),
    "newer format": lambda f: edit(f / "config.json", format=99),
    "unknown key": lambda f: edit(f / "config.json", train={"horizont": 3}),
    "nan": lambda f: weights(f / "model.safetensors", first_to_nan),
    "missing tensor": lambda f: weights(
        f / "model.safetensors", lambda t: t.pop("denoiser.backbone.head.bias")
    ),
    "wrong shape": lambda f: weights(
        f / "model.safetensors", lambda t: t.update({"denoiser.backbone.head.bias": torch.zeros(99)})
    ),
    "no normaliser": lambda f: weights(f / "model.safetensors", lambda t: t.pop("normalizer.mean")),
}


@pytest.mark.parametrize("how", BREAK)
def test_damage_is_a_value_error_that_names_the_checkpoint(run, how):
    BREAK[how](run)
    with pytest.raises(ValueError) as error:
        checkpoint.load(run)
    assert str(run) in str(error.value)
    assert not isinstance(error.value, (UnicodeDecodeError, json.JSONDecodeError))


def test_wrong_format_says_which(run):
    edit(run / "config.json", format=99)
    with pytest.raises(ValueError, match="format 99, this version reads 1"):
        checkpoint.load(run)


def test_damaged_files_are_named(run):
    truncate(run / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        checkpoint.load(run)
    truncate(run / "config.json")
    with pytest.raises(ValueError, match=r"config\.json"):
        checkpoint.load(run)


@pytest.mark.parametrize("where", ["absent", "empty", "file.json"])
def test_what_is_not_a_checkpoint(tmp_path, where):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.json").write_text("{}")
    with pytest.raises(ValueError, match=where):
        checkpoint.load(tmp_path / where)


def test_killed_between_the_two_renames_is_read_where_it_is_and_put_back_by_who_writes(run):
    former = run.with_name(f".{run.name}.old")
    os.replace(run, former)
    assert checkpoint.load(run).config.horizon == checkpoint.settings(run).horizon == 6
    assert checkpoint.exists(run) and former.exists() and not run.exists()
    checkpoint.recover(run)
    assert run.exists() and not former.exists()


def swap(run, other):
    """What a write does to the folder, in its two renames."""
    former = run.with_name(f".{run.name}.old")
    os.replace(run, former)
    yield
    os.replace(other, run)
    shutil.rmtree(former)


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_a_reader_gets_one_write_whole_however_the_swap_falls(run, tmp_path, when):
    """Files read before the swap are never put together with files read after it."""
    other = shutil.copytree(run, tmp_path / "next")
    edit(other / "config.json", act={"policy": {"memory": 2}})
    writer, seen = swap(run, other), []

    def read(here):
        first = json.loads((here / "config.json").read_text())["act"]
        for _ in range({"before": 0, "between": 1, "after": 2}[when] if not seen else 0):
            next(writer, None)
        seen.append(first)
        try:
            return first, json.loads((here / "config.json").read_text())["act"]
        except OSError as error:
            raise ValueError("half gone") from error

    first, second = checkpoint.whole(run, read)
    assert first == second == ({"policy": {"memory": 2}} if when == "after" else {})
    assert len(seen) == (1 if when == "before" else 2)


def test_damage_is_not_waited_for_and_constant_change_is_said(run, monkeypatch):
    pauses = []
    monkeypatch.setattr(checkpoint.time, "sleep", pauses.append)
    truncate(run / "model.safetensors")
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(run)
    assert not pauses

    with pytest.raises(ValueError, match="raise the run's save_every"):
        checkpoint.whole(run, lambda here: os.utime(here, ns=(0, len(pauses) + 1)))
    assert pauses


def test_readers_beside_a_trainer_change_nothing_and_read_whole(tmp_path):
    """Whoever loads between the two renames of a save neither hurts it nor sees half."""
    folder, steps = tmp_path / "run", []

    def save():
        real = os.replace

        def replace(source, target):
            if folder.exists() or folder.with_name(".run.old").exists():
                steps.append(checkpoint.load(folder).config.steps)
            real(source, target)

        return replace

    trainer = Trainer(config(action_spec(), save_every=1), DATA, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.os, "replace", save())
        assert list(trainer.run())[-1] == 12
    assert len(steps) == 22 and set(steps) == {12}
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("fail_at", [1, 2])
def test_a_write_that_fails_leaves_the_old_folder_readable(run, monkeypatch, fail_at):
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == fail_at:
            raise OSError("disk gone")
        real(source, target)

    before = load_file(run / "model.safetensors")
    monkeypatch.setattr(checkpoint.os, "replace", replace)
    with pytest.raises(OSError, match="disk gone"):
        checkpoint.write_folder(run, {"model.safetensors": {"a": torch.zeros(1)}}, {})
    monkeypatch.undo()
    checkpoint.recover(run)
    assert set(load_file(run / "model.safetensors")) == set(before)
    assert [p.name for p in run.parent.iterdir()] == [run.name]


def test_write_replaces_the_folder_whole(tmp_path):
    checkpoint.write_folder(tmp_path / "a" / "b", {"x.safetensors": {"v": torch.ones(2)}}, {"config.json": 1})
    checkpoint.write_folder(tmp_path / "a" / "b", {"y.safetensors": {"v": torch.ones(2, 3).mT}}, {})
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["y.safetensors"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]


def test_write_leaves_what_is_no_checkpoint_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is no checkpoint; it is left alone"):
        checkpoint.write_folder(tmp_path, {}, {"config.json": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_export_rounds_the_largest_matrices_where_the_file_would_be_too_large(trained, tmp_path):
    folder, _ = trained
    checkpoint.export(folder, tmp_path / "half")
    size = (tmp_path / "half" / "model.safetensors").stat().st_size
    whole, half = checkpoint.load(folder), checkpoint.load(tmp_path / "half")
    checkpoint.export(folder, tmp_path / "small", most=20_000 + 0.8 * size)
    small, stored = checkpoint.load(tmp_path / "small"), load_file(tmp_path / "small" / "model.safetensors")
    rounded = [k for k, v in stored.items() if v.dtype == torch.int8]
    matrices = [k for k, v in stored.items() if v.ndim == 2 and k not in rounded and "scale" not in k]
    assert rounded and min(stored[k].numel() for k in rounded) >= max(stored[k].numel() for k in matrices)
    assert sum(v.nbytes for v in stored.values()) <= 0.8 * size
    for name, value in whole.denoiser.state_dict().items():
        mine = small.denoiser.state_dict()[name]
        if f"denoiser.{name}" in rounded:
            assert ((mine - value).abs() <= value.abs().amax(1, keepdim=True) / 253).all()
        else:
            assert torch.equal(mine, half.denoiser.state_dict()[name])
    checkpoint.export(tmp_path / "small", tmp_path / "again", most=20_000 + 0.8 * size)
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == stored.keys() and all(torch.equal(again[k], stored[k]) for k in stored)
