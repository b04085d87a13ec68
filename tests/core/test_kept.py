"""Roadmaps that are kept: the same as built, by what they depend on, and never in the way of a plan."""

import os
from dataclasses import replace

import numpy as np
import pytest

import dfplan
from dfplan.plan import PlannerConfig
from dfplan.plan.kept import digest, kept
from dfplan.plan.roadmap import Roadmap

START, GOAL = [1.0, 1.0, 0.0, 0.0], [1.0, 6.0]


@pytest.fixture(scope="module")
def planner():
    return dfplan.load("maze2d-large", PlannerConfig(roadmap=12))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DFPLAN_ROADMAPS", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_what_is_read_is_what_was_built(planner, folder):
    built, read = kept(planner), kept(planner)
    assert built.calls > 0 and read.calls == 0 and len(built.net.legs) > 10
    np.testing.assert_array_equal(read.net.states, built.net.states)
    np.testing.assert_array_equal(read.net.legs, built.net.legs)
    for a, b in zip(read.net.paths, built.net.paths, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(read.plan(START, GOAL).observations, built.plan(START, GOAL).observations)
    assert [p.suffix for p in folder.iterdir()] == [".safetensors"]


def test_another_model_setting_or_seed_is_another_roadmap(planner):
    other = replace(
        planner.model, evidence=planner.model.evidence | {"limit": planner.model.evidence["limit"] + 1}
    )
    found = {
        digest(planner, 0), digest(planner, 1), digest(dfplan.load("maze2d-medium", planner.config), 0),
        digest(dfplan.load("maze2d-large", PlannerConfig(roadmap=13)), 0), digest(dfplan.Planner(other, planner.config), 0),
    }  # fmt: skip
    assert len(found) == 5 and digest(planner, 0) == digest(dfplan.load("maze2d-large", planner.config), 0)


@pytest.mark.parametrize("damage", [b"", b"no tensors", "cut"])
def test_a_broken_file_is_built_anew(planner, folder, damage):
    kept(planner)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-40] if damage == "cut" else damage)
    assert kept(planner).calls > 0 and kept(planner).calls == 0


@pytest.mark.parametrize("place", ["a file", "read-only"])
def test_where_nothing_can_be_written_the_plan_is_made_all_the_same(planner, tmp_path, monkeypatch, place):
    target = tmp_path / "there"
    if place == "a file":
        target.write_text("")
    elif os.geteuid() == 0:
        target = type(target)("/proc/dfplan")  # root may write anywhere else
    else:
        target.mkdir(mode=0o500)
    monkeypatch.setenv("DFPLAN_ROADMAPS", str(target))
    with pytest.warns(UserWarning, match="not kept"):
        found = kept(planner)
    assert isinstance(found, Roadmap) and found.plan(START, GOAL).observations.shape[1] == 4
