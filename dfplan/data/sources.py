"""Names of published data sets: where D4RL serves each, and the time step of each family."""

from __future__ import annotations

import re
from importlib import resources

_RAIL = "https://rail.eecs.berkeley.edu/datasets/offline_rl"


def _maze2d() -> dict[str, str]:
    """Maze2D: sparse files lack the word in the task's name and carry it in the file's."""
    urls = {
        "maze2d-open-v0": f"{_RAIL}/maze2d/maze2d-open-sparse.hdf5",
        "maze2d-open-dense-v0": f"{_RAIL}/maze2d/maze2d-open-dense.hdf5",
    }
    for maze in ("umaze", "medium", "large", "eval-umaze", "eval-medium", "eval-large"):
        urls[f"maze2d-{maze}-v1"] = f"{_RAIL}/maze2d/maze2d-{maze}-sparse-v1.hdf5"
        urls[f"maze2d-{maze}-dense-v1"] = f"{_RAIL}/maze2d/maze2d-{maze}-dense-v1.hdf5"
    return urls


def _antmaze() -> dict[str, str]:
    """AntMaze v2, the version with repaired timeouts."""
    files = {
        "umaze": "u-maze_noisy_multistart_False_multigoal_False",
        "umaze-diverse": "u-maze_noisy_multistart_True_multigoal_True",
        "medium-play": "big-maze_noisy_multistart_True_multigoal_False",
        "medium-diverse": "big-maze_noisy_multistart_True_multigoal_True",
        "large-play": "hardest-maze_noisy_multistart_True_multigoal_False",
        "large-diverse": "hardest-maze_noisy_multistart_True_multigoal_True",
    }
    return {
        f"antmaze-{task}-v2": f"{_RAIL}/ant_maze_v2/Ant_maze_{file}_sparse_fixed.hdf5"
        for task, file in files.items()
    }


def _locomotion() -> dict[str, str]:
    """Gym locomotion: v0, whose replay is called mixed and which marks no cuts by time; v1; v2, which others report on."""
    urls = {}
    for robot in ("halfcheetah", "hopper", "walker2d", "ant"):
        for kind in ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert"):
            file = f"{robot}_{kind.replace('-', '_')}"
            for version in ("v1", "v2"):
                urls[f"{robot}-{kind}-{version}"] = f"{_RAIL}/gym_mujoco_{version}/{file}-{version}.hdf5"
            if kind != "full-replay":
                old = file.replace("medium_replay", "mixed").replace("walker2d_mixed", "walker_mixed")
                urls[f"{robot}-{kind}-v0"] = f"{_RAIL}/gym_mujoco/{old}.hdf5"
    return urls


def _manipulation() -> dict[str, str]:
    """Adroit v0 and v1, and Franka kitchen v0."""
    urls = {}
    for task in ("pen", "hammer", "door", "relocate"):
        for kind, old in (
            ("human", "v0_demos_clipped"),
            ("cloned", "demos-v0-bc-combined"),
            ("expert", "v0_expert_clipped"),
        ):
            urls[f"{task}-{kind}-v1"] = f"{_RAIL}/hand_dapg_v1/{task}-{kind}-v1.hdf5"
            urls[f"{task}-{kind}-v0"] = f"{_RAIL}/hand_dapg/{task}-{old}.hdf5"
    kitchen = {
        "complete": "mini_kitchen_microwave_kettle_light_slider-v0",
        "partial": "kitchen_microwave_kettle_light_slider-v0",
        "mixed": "kitchen_microwave_kettle_bottomburner_light-v0",
    }
    urls |= {f"kitchen-{kind}-v0": f"{_RAIL}/kitchen/{file}.hdf5" for kind, file in kitchen.items()}
    return urls


D4RL_URLS: dict[str, str] = {**_maze2d(), **_antmaze(), **_locomotion(), **_manipulation()}
"""D4RL task name -> the address of its HDF5 file, as D4RL's own `infos.py` lists them."""

_FILE_TO_NAME = {url.rsplit("/", 1)[1].removesuffix(".hdf5"): name for name, url in D4RL_URLS.items()}

# Seconds between two env steps = simulator time step x frame skip, read from each family's source.
# D4RL's AntMaze steps its own ant.xml (0.02 s x 5); Minari's uses Gymnasium's ant (0.01 s x 5).
_ADROIT = (r"(pen|hammer|door|relocate)[-_/]", 0.01)
_SHARED_STEPS = (_ADROIT, (r"halfcheetah", 0.05), (r"hopper", 0.008), (r"walker", 0.008), (r"kitchen", 0.08))
# OGBench's names: of its tasks and how they were collected; other data called `scene` or `cube` are not meant.
_OGBENCH = (
    (r"(pointmaze|antsoccer)-(medium|large|giant|teleport|arena)-(navigate|stitch|explore)", 0.1),
    (r"humanoidmaze-(medium|large|giant|teleport)-(navigate|stitch)", 0.025),
    (r"(cube-(single|double|triple|quadruple|octuple)|puzzle-\dx\d|scene)-(play|noisy)", 0.05),
)
_PUSHT = (r"push[-_]?t(?![a-z])", 0.1)
_D4RL_STEPS = (
    (r"maze2d", 0.01),
    (r"ant[-_]?maze", 0.1),
    *_SHARED_STEPS,
    (r"ant[-_]", 0.05),
    _PUSHT,
    *_OGBENCH,
)
_MINARI_STEPS = ((r"pointmaze", 0.01), (r"antmaze", 0.05), *_SHARED_STEPS, (r"ant[-_/]", 0.05))


def digest_of(file: str) -> str | None:
    """SHA-256 of a released D4RL file by its name, in hexadecimal; None where none is known to us (Maze2D, kitchen)."""
    text = resources.files("dfplan.data").joinpath("digests.txt").read_text(encoding="utf-8")
    rows = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return next((digest for digest, name in rows if name == file), None)


class UnknownTimeStep(ValueError):
    """Neither the file nor the caller says how much time passes between env steps."""

    def __init__(self, path: object, name: str) -> None:
        super().__init__(
            f"{path}: the time step of '{name}' is not known; pass dt=, seconds between env steps"
        )


def d4rl_name(stem: str) -> str:
    """The task name of a released D4RL file (`maze2d-large-sparse-v1` -> `maze2d-large-v1`), else `stem`."""
    return _FILE_TO_NAME.get(stem, stem)


def time_step(name: str, *, minari: bool = False) -> float | None:
    """Seconds between two env steps of a known D4RL task or Minari set, or None.

    A family is recognised where its word begins `name` or a part of it after '-', '_' or '/'; other
    simulators' variants (`bullet-...`) are not.
    """
    lower = name.lower()
    if "bullet" in lower:
        return None
    for pattern, seconds in _MINARI_STEPS if minari else _D4RL_STEPS:
        if re.search(rf"(?:^|[-_/]){pattern}", lower):
            return seconds
    return None
