"""The mapping file: what the robot calls its joints and sensors, and what the policy calls them."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfplan.deploy.robot.limits import Safety
from dfplan.deploy.robot.tables import Command, LoopSettings, PolicyMap, Robot, Source
from dfplan.tools.errors import one_of, optional_import
from dfplan.tools.serialize import from_dict, to_dict

# As in YAML 1.2: `on` and `y` are names, and 1e-3 is a number.
_YAML_1_2 = (
    "^(?:true|True|TRUE|false|False|FALSE)$",
    r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$",
)


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
        """Refuse names that are not there.

        Raises:
            ValueError: with the nearest name.
        """
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
        for name in self.policy.action_joints:
            one_of("action joint", name, joints)
        steps = self.loop.rate * self.policy.dt
        if abs(steps - round(steps)) > 1e-6 or steps < 1:
            raise ValueError(
                f"got rate={self.loop.rate}, dt={self.policy.dt}; expected whole ticks per action"
            )

    def source(self, name: str) -> Source:
        """The source called `name`."""
        found = one_of("source", name, [s.name for s in self.sources])
        return next(s for s in self.sources if s.name == found)


def load_mapping(path: str | os.PathLike[str]) -> Mapping:
    """Read a mapping file (YAML).

    Raises:
        ValueError: naming the file and the key, with the nearest name for one that does not exist.
        ImportError: PyYAML is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist; docs/deploy.md has a mapping to start from")
    values = parse(path.read_text(encoding="utf-8"), str(path))
    robot = values.get("robot")
    if isinstance(robot, dict) and isinstance(robot.get("urdf"), str) and robot["urdf"]:
        robot["urdf"] = str(path.parent / robot["urdf"])
    return from_dict(Mapping, values, str(path))


def parse(text: str, where: str = "mapping") -> dict[str, Any]:
    """YAML -> a table; a key given twice is an error, not the last one."""
    yaml: Any = optional_import("yaml", "deploy")

    loader_class: Any = type("Loader", (yaml.SafeLoader,), {})  # its rules are changed below

    def table(loader: Any, node: Any) -> dict[Hashable, Any]:
        out: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            if key in out:
                raise ValueError(f"{where}: key '{key}' is given twice (line {key_node.start_mark.line + 1})")
            out[key] = loader.construct_object(value_node, deep=True)
        return out

    loader_class.add_constructor("tag:yaml.org,2002:map", table)
    own = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
    loader_class.yaml_implicit_resolvers = {
        first: [rule for rule in rules if rule[0] not in own]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag, pattern, first in zip(own, _YAML_1_2, ("tTfF", "-+0123456789."), strict=True):
        loader_class.add_implicit_resolver(tag, re.compile(pattern), list(first))
    try:
        values = yaml.load(text, loader_class)
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: not valid YAML ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{where}: got {str(values)[:40]!r}, expected a table with robot, sources, commands, policy"
        )
    return values


def dump_mapping(mapping: Mapping) -> str:
    """The mapping as YAML that `load_mapping` reads back."""
    yaml: Any = optional_import("yaml", "deploy")
    return str(yaml.safe_dump(to_dict(mapping), sort_keys=False, allow_unicode=True))
