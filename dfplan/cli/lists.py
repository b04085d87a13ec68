"""`dfplan list`."""

from __future__ import annotations

import json as text

from dfplan.cli.common import POLICY_TASKS, app


@app.command(name="list")
def names(json: bool = False) -> None:
    """What there is, by name: models, tasks, environments, arms, formats, schedules, costs, networks, memories, policies.

    dfplan list

    dfplan list --json

    Wherever such a name is asked for, `module:Name` of one's own is taken as well.

    Args:
        json: print it as JSON.
    """
    found = everything()
    if json:
        print(text.dumps(found, indent=1))
        return
    for kind, each in found.items():
        print(f"  {kind:<14} {', '.join(each)}")


def everything() -> dict[str, list[str]]:
    """Kind -> names."""
    from dfplan import deploy, envs, guidance, models, sampling, schedules
    from dfplan.data.formats.registry import FORMATS
    from dfplan.nets.carriers import CARRIERS
    from dfplan.train.config import NETWORKS

    mazes = [f"maze2d-{name}" for name in envs.MAZES if not name.endswith("eval")]
    mazes += [f"{name}-dense" for name in mazes]
    return {
        "models": models.shipped(),
        "tasks": [*mazes, *envs.POINT_MAZES, *POLICY_TASKS, *envs.MEMORY_IDS],
        "environments": [*envs.ENV_IDS.values(), *envs.ARM_IDS.values(), *envs.MEMORY_IDS.values(), "pusht"],
        "arms": deploy.arms(),
        "formats": list(FORMATS),
        "schedules": list(schedules.SCHEDULES),
        "step rules": list(sampling.STEPS),
        "costs": [*guidance.COSTS, "dfplan.envs.arm.keep_clear:keep_clear"],
        "networks": list(NETWORKS),
        "memories": list(CARRIERS),
        "policies": ["random", "search", "graph", "nearest", "faithful"],
    }
