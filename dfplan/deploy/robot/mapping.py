"""The mapping file: what the robot calls its joints and sensors, and what the policy calls them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

from dfplan.deploy.robot.limits import Safety
from dfplan.deploy.robot.tables import Command, LoopSettings, PolicyMap, Robot, Source
from dfplan.tools.errors import one_of, optional_import
from dfplan.tools.serialize import from_dict, to_dict

_OCTAL = re.compile(r"[-+]?0[0-9]+(\.[0-9]*)?")
_ARMS = Path(__file__).parents[1] / "arms"


@dataclass(frozen=True)
class Mapping:
    """One robot, one policy: what recording, training and deployment share."""

    robot: Robot
    sources: tuple[Source, ...]
    commands: tuple[Command, ...]
    policy: PolicyMap
    safety: Safety = field(default_factory=Safety)
    loop: LoopSettings = field(default_factory=LoopSettings)

    def __post_init__(self) -> None:
        """Refuse names that are not there; ValueError with the nearest name."""
        names, joints = [s.name for s in self.sources], [j.name for j in self.robot.joints]
        if len(set(names)) != len(names):
            raise ValueError(f"got sources {names}, expected names that differ")
        state = self.source(self.robot.state)
        if state.kind != "joint_state" or not state.required:
            raise ValueError(
                f"source '{state.name}' is robot.state; expected kind joint_state, required true"
            )
        for sensor in self.policy.observation:
            source = self.source(sensor.source)
            if source.kind == "array":
                for name in sensor.names:
                    one_of(f"number of source '{source.name}'", name, source.names)
            if (source.kind == "joint_state") != (sensor.field != "value"):
                raise ValueError(
                    f"sensor '{sensor.name}': field '{sensor.field}' does not fit a {source.kind}"
                )
        for command in self.commands:
            for name in command.joints:
                one_of(f"joint of command '{command.topic}'", name, joints)
        commanded = [name for command in self.commands for name in command.joints]
        if sorted(commanded) != sorted(joints):
            raise ValueError(f"commands move {commanded}, expected each of {joints} exactly once")
        topics = [source.topic for source in self.sources] + [command.topic for command in self.commands]
        for command in self.commands:
            if topics.count(command.topic) > 1:
                raise ValueError(f"got topic '{command.topic}' of a command elsewhere too; give each its own")
        for name in self.policy.action_joints:
            one_of("action joint", name, joints)
        if self.loop.rate * self.policy.dt < 1 - 1e-6:
            raise ValueError(
                f"got loop.rate={self.loop.rate:g} and policy.dt={self.policy.dt:g}; expected a tick per action at least: "
                f"rate {1 / self.policy.dt:g} or more"
            )

    def source(self, name: str) -> Source:
        """The source called `name`."""
        found = one_of("source", name, [s.name for s in self.sources])
        return next(s for s in self.sources if s.name == found)

    @cached_property
    def needed(self) -> dict[str, tuple[str, ...]]:
        """Source -> what it must have: joints or numbers of its sensors, and of the state all that are commanded."""
        names: dict[str, list[str]] = {source.name: [] for source in self.sources}
        for sensor in self.policy.observation:
            names[sensor.source] += sensor.names
        names[self.robot.state] += [joint.name for joint in self.robot.joints]
        return {source: tuple(dict.fromkeys(row)) for source, row in names.items()}

    def concerns(self, source: str, names: Iterable[str]) -> bool:
        """Whether a message with these names is for a source: with none of those it needs it is somebody else's."""
        needed = self.needed[source]
        return not needed or not set(needed).isdisjoint(names)


def arms() -> list[str]:
    """Names of the arms whose mapping is in the package."""
    return sorted(path.stem for path in _ARMS.glob("*.yaml"))


def mapping_file(path: str | os.PathLike[str]) -> Path:
    """The file of a mapping: of an arm in the package by its name, else `path`; ValueError if there is none, with the nearest."""
    path, names = Path(path), arms()
    if str(path) in names:
        return _ARMS / f"{path}.yaml"
    if path.parent == Path() and not path.suffix and not path.exists():
        one_of("robot", str(path), [*names, "a mapping file such as robot.yaml"])
    if not path.is_file():
        raise ValueError(
            f"{path} is no file; begin with a copy of one that ships: dfplan check ur5e --copy ."
        )
    return path


def load_mapping(path: str | os.PathLike[str]) -> Mapping:
    """Read a mapping file (YAML) or the mapping of an arm in the package, see `arms`.

    Raises:
        ValueError: naming the file, the key, and the nearest one that exists.
    """
    path = mapping_file(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: no text ({error}), expected a mapping in YAML; begin with dfplan check ur5e --copy ."
        ) from error
    values = parse(text, str(path))
    robot = values.get("robot")
    for key in ("urdf", "calibration"):
        if isinstance(robot, dict) and isinstance(robot.get(key), str) and robot[key]:
            robot[key] = str(path.parent / robot[key])
    return from_dict(Mapping, values, str(path))


def parse(text: str, where: str = "mapping") -> dict[str, Any]:
    """YAML 1.2 -> a table: `on` and `1:30` are texts; a number such as `010` and a key given twice are errors."""
    yaml: Any = optional_import("ruamel.yaml", "deploy")
    try:
        for token in yaml.YAML(typ="safe", pure=True).scan(text):
            if getattr(token, "plain", False) and _OCTAL.fullmatch(token.value):
                raise ValueError(
                    f"{where}: line {token.start_mark.line + 1}: got {token.value}, a number that begins with 0, which is "
                    "read as octal or decimal; write it without the 0, or a text in quotes"
                )
        values = yaml.YAML(typ="safe", pure=True).load(text)
    except yaml.constructor.DuplicateKeyError as error:
        line = error.problem_mark.line + 1
        raise ValueError(f"{where}: line {line}: a key is given twice; keep one") from error
    except yaml.error.YAMLError as error:
        raise ValueError(f"{where}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{where}: got {str(values)[:40]!r}, expected a table with robot, sources, commands, policy"
        )
    return values


def dump_mapping(mapping: Mapping) -> str:
    """The mapping as YAML that `load_mapping` reads back."""
    yaml, out = optional_import("ruamel.yaml", "deploy").YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False
    yaml.dump(to_dict(mapping), out)
    return out.getvalue()
