"""Settings on the command line: options made from a dataclass, and --set as another spelling of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import tyro
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from dfplan.cli.settings import given, merged, options, spelled_out


@dataclass(frozen=True)
class Leaf:
    """One thing.

    Attributes:
        name: what it is called.
    """

    name: str


@dataclass(frozen=True)
class Inner:
    """Inside.

    Attributes:
        size: how large.
        fast: whether it hurries.
        own: anything.
    """

    size: int = 1
    fast: bool = False
    own: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outer:
    """All of it.

    Attributes:
        rate: how often.
        goal: where to.
        leaves: of the tree.
        inner: inside.
        table: sensors by token, or none.
    """

    rate: float = 0.5
    goal: tuple[float, ...] | None = None
    leaves: tuple[Leaf, ...] = ()
    inner: Inner = field(default_factory=Inner)
    table: Mapping[str, Any] | None = None


def parse(*words):
    return given(tyro.cli(options(Outer), args=spelled_out(words, Outer)))


WORDS = st.text("abc-_ ,=", min_size=1, max_size=6)
TABLES = st.dictionaries(WORDS, st.one_of(st.integers(), WORDS, st.lists(WORDS, max_size=2)), max_size=2)
VALUES = {
    "rate": st.floats(-1e6, 1e6),
    "goal": st.lists(st.floats(-9, 9), min_size=1, max_size=3),
    "leaves": st.lists(st.fixed_dictionaries({"name": WORDS}), max_size=2),
    "inner.size": st.integers(-99, 99),
    "inner.fast": st.booleans(),
    "inner.own": TABLES,
    "table": TABLES,
}


@settings(max_examples=30, deadline=None)
@drawn(st.fixed_dictionaries({}, optional=VALUES))
def test_whatever_is_set_arrives_as_it_was_set(values):
    want: dict[str, Any] = {}
    for key, value in values.items():
        *group, last = key.split(".")
        at = want.setdefault(group[0], {}) if group else want
        at[last] = tuple(value) if key == "goal" else value
    assert parse("--set", *(f"{key}={json.dumps(value)}" for key, value in values.items())) == want


@dataclass(frozen=True)
class More(Inner):
    """Inside, and more.

    Attributes:
        size: how very large.
        deep: how deep.
    """

    size: int = 2
    deep: float = 0.0


def test_what_is_inherited_is_explained_too(capsys):
    with pytest.raises(SystemExit):
        tyro.cli(options(More), args=["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for option in (
        "--size INT how very large. (default: 2)",
        "--deep FLOAT how deep.",
        "whether it hurries.",
    ):
        assert option in shown, shown


def test_options_read_as_they_do_everywhere():
    words = ["--rate", "2", "--inner.size", "3", "--goal", "1", "-2.5", "--inner.fast"]
    assert parse(*words) == {"rate": 2.0, "goal": (1.0, -2.5), "inner": {"size": 3, "fast": True}}
    assert parse("--inner.fast", "false") == {"inner": {"fast": False}}
    assert parse() == {}
    assert parse("--set", 'inner={"size": 4, "own": {"a": 1}}') == {"inner": {"size": 4, "own": {"a": 1}}}
    assert parse("--set", "rate=1", "--inner.size", "2", "--set", "rate=3") == {
        "rate": 3.0,
        "inner": {"size": 2},
    }


@pytest.mark.parametrize(
    "words", [["--inner.fast", "maybe"], ["--table", "x"], ["--set", "inner.sise=2"], ["--set", "rate=fast"]]
)
def test_what_cannot_be_read_is_refused(words, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(*words)
    said = capsys.readouterr().err
    assert (
        stop.value.code == 2
        and words[-1].split("=")[0].split(".")[0].strip("-") in said
        and "Trace" not in said
    )


def test_set_without_a_value_is_refused():
    with pytest.raises(ValueError, match="got setting 'rate', expected key=value"):
        spelled_out(["--set", "rate"], Outer)


def test_tables_are_replaced_and_groups_are_filled_in():
    base = {"rate": 1, "inner": {"size": 2, "own": {"a": 1}}, "table": {"x": 1}}
    changes = {"inner": {"fast": True, "own": {"b": 2}}, "table": {"y": 2}}
    want = {"rate": 1, "inner": {"size": 2, "fast": True, "own": {"b": 2}}, "table": {"y": 2}}
    assert merged(base, changes, Outer) == want
    assert base["inner"] == {"size": 2, "own": {"a": 1}}
    assert merged({"rate": 1}, {"inner": {"size": 3}}, Outer) == {"rate": 1, "inner": {"size": 3}}
