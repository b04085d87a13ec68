"""What `dfplan eval` is asked: where, which episodes, what acts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from dfplan.act import ImitationConfig
from dfplan.cli.common import at_least
from dfplan.cli.settings import options
from dfplan.planner import PlannerConfig
from dfplan.tools.errors import new_place

PLANNING, ACTING = options(PlannerConfig), options(ImitationConfig)
AS_TRAINED, AS_TAUGHT = PLANNING(), ACTING()


@dataclass(frozen=True)
class Place:
    """Where it is measured.

    Attributes:
        env: any environment with Box actions and Box (or Dict of Box) observations, instead of a task: a Gymnasium id,
            module:Id or module:Name.
        env_args: arguments of that environment, such as env_name=reach-v3 max_episode_steps=200.
        keys: of a Dict observation the entries to use, in the order of the demonstrations' columns.
        goal: mazes: the task's own, or a random one each episode (Multi2D).
        starts: mazes: .npz or .hdf5 with start_state (N, 4) and goal_pos (N, 2) to run instead of random starts.
        disturb: what happens in mid-run. Mazes: push (the ball gets another velocity, twice), move (the goal, twice),
            wind, door (a cell on the way is shut, nobody is told). The arm and tasks of memory have others.
        obstacles: mazes: so many unseen balls on the way of each start, which are not solid: a touch is counted. Plans of
            a model with recorded steps go around them.
        across: they are as wide as a cell, so that there is no way but another one; else a gap or another way is left.
    """

    env: str | None = None
    env_args: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    goal: Literal["fixed", "random"] = "fixed"
    starts: Path | None = None
    disturb: Literal["none", "push", "move", "wind", "door", "freeze", "blank", "offset"] = "none"
    obstacles: int = 0
    across: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        at_least(0, obstacles=self.obstacles)
        if self.across and not self.obstacles:
            raise ValueError("got --across without --obstacles; add --obstacles 1")


@dataclass(frozen=True)
class Episodes:
    """Which episodes are run, and what is kept of them.

    Attributes:
        episodes: how many; at least 300 to tell maze scores 5 points apart.
        seed: episode i has seed + i.
        workers: processes that share the episodes.
        cluster: where they run: `local` or the HOST:PORT of a Ray cluster (needs pip install 'dfplan[cluster]'), on which what
            dies with a process or a machine is run anew; empty: this machine, without Ray.
        video: folder for films of the first six episodes, with env step, time and success on each picture.
        video_format: of these films: gif, or mp4 (needs pip install 'dfplan[video]').
        json: write the numbers there as well.
    """

    episodes: int = 100
    seed: int = 0
    workers: int = 1
    cluster: str = ""
    video: Path | None = None
    video_format: Literal["gif", "mp4"] = "gif"
    json: Path | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        at_least(1, episodes=self.episodes, workers=self.workers)
        at_least(0, seed=self.seed)
        if self.video_format != "gif" and self.video is None:
            raise ValueError(f"got --video-format {self.video_format} without --video; add --video FOLDER")
        if self.cluster and self.video:
            raise ValueError("got --video with --cluster, where pictures are not carried over; leave one out")
        for path in (self.json, self.video and self.video / "film"):
            if path is not None:
                new_place(path)

    @property
    def seeds(self) -> range:
        """One for each episode."""
        return range(self.seed, self.seed + self.episodes)


@dataclass(frozen=True)
class Actor:
    """What acts.

    Attributes:
        checkpoint: run or checkpoint folder, or the name of a shipped model; the task's own if left out.
        last: evaluate the run's last so many kept checkpoints, and report best and mean apart.
        actor: instead of the model: search (mazes: the shortest way on the map, with the model's tracker), graph (mazes:
            the shortest way over recorded transitions of `data`, with the same tracker), nearest (as the demonstration in
            `data` that looked most like now), faithful (likewise, always the one it took first), random,
            or module:Name of what is called with the environment and returns an object with act(observation).
        data: demonstrations for graph, nearest and faithful; the task's own where it is left out.
        tracker: mazes: look_ahead holds the robot's speed limit; pd is the official Diffusion Forcing law.
        planner: planning models: how plans are sampled and chosen; what is left out is as the checkpoint says.
        policy: imitation models: how they look back and act; likewise.
    """

    checkpoint: str | None = None
    last: int = 0
    actor: Annotated[
        str, tyro.conf.arg(name="policy", metavar="{search,graph,nearest,faithful,random}|STR")
    ] = ""
    data: str = ""
    tracker: Literal["look_ahead", "pd"] = "look_ahead"
    planner: Annotated[Any, tyro.conf.arg(constructor=PLANNING)] = AS_TRAINED
    policy: Annotated[Any, tyro.conf.arg(constructor=ACTING)] = AS_TAUGHT

    def folders(self, task: str) -> list[Path | None]:
        """Checkpoints to evaluate; None where none is needed."""
        from dfplan.models import find, kept, shipped

        at_least(0, last=self.last)
        if self.actor not in ("", "search"):
            return [None]
        name = self.checkpoint or task
        if name not in shipped() and self.checkpoint is None:
            raise ValueError(f"got no --checkpoint, and no model ships for '{task}'; give the run folder")
        return [*kept(name, self.last)] if self.last else [find(name)]
