"""Names of our own and of a user's modules."""

import math

import pytest

from dfplan.tools.named import named, trusted

KNOWN = {"npz": 1, "zarr": 2}


def test_our_own_names():
    assert named("format", "zarr", KNOWN) == 2


def test_a_module_and_a_nested_name():
    assert named("format", "math:hypot", KNOWN) is math.hypot
    assert named("format", "pathlib:Path.cwd", KNOWN)


@pytest.mark.parametrize(
    "name, words",
    [
        ("zar", "got format 'zar', expected one of npz, zarr; did you mean 'zarr'"),
        ("no_such_module:Name", "'no_such_module' cannot be imported"),
        (":Name", "cannot be imported"),
        ("..math:hypot", "cannot be imported"),
        ("math:hypo", "did you mean 'hypot'"),
        ("math:", "there is no '' in math, expected module:Name"),
    ],
)
def test_what_is_not_there_is_refused(name, words):
    with pytest.raises(ValueError, match=words):
        named("format", name, KNOWN)


def test_a_module_that_fails_says_so_itself(tmp_path, monkeypatch):
    (tmp_path / "broken_format.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        named("format", "broken_format:Name", KNOWN)


@pytest.mark.parametrize(
    "text",
    ["os:system('x')", "dfplan.decide:sys.exit", "subprocess:run(['x'])", "mine:cost(margin=1)", "os:getcwd"],
)
def test_a_checkpoint_names_no_code_of_python(text):
    with pytest.raises(ValueError, match="the checkpoint asks for cost="):
        trusted("cost", text)


@pytest.mark.parametrize(
    "text", ["goal(target={'x': 1})", "dfplan.envs.arm.keep_clear:keep_clear(margin=0.1)", "mine:cost", "2 * mine:cost()", "full"]
)  # fmt: skip
def test_a_checkpoint_names_ours_and_the_users_own(text):
    trusted("cost", text)
