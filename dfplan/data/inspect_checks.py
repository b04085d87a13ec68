"""What can be wrong with demonstrations, and guesses at their conventions. Each check yields sentences."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import clock_of, column_names, intervals
from dfplan.data.episodes import Episodes
from dfplan.data.rows import bad_rows

Floats = NDArray[np.float64]
Check = Callable[[Episodes], Iterator[str]]
_ROWS = 200_000
_LISTED = 4


def columns_of(episodes: Episodes, key: str) -> tuple[Floats, list[str]]:
    """Up to 200,000 first rows of an array as (N, C) float64, and its columns' names."""
    array = np.asarray(episodes.arrays[key])
    names = episodes.info.get("names", {}).get(key) or column_names(key, array.shape)
    return array[:_ROWS].reshape(min(len(array), _ROWS), -1).astype(np.float64), list(names)


def inside_steps(episodes: Episodes, rows: int) -> NDArray[np.bool_]:
    """(rows - 1,) True where env step t and t + 1 are of the same episode."""
    inside = np.ones(max(rows - 1, 0), np.bool_)
    inside[[end - 1 for end in episodes.ends.tolist() if end < rows]] = False
    return inside


def _some(names: Sequence[str]) -> str:
    """The first few names and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def not_finite(episodes: Episodes) -> Iterator[str]:
    """NaN and infinity."""
    for key, array in episodes.arrays.items():
        bad = bad_rows(array)
        if len(bad):
            yield f"{key}: {len(bad)} rows hold NaN or infinity, first row {bad[0]}"


def constant(episodes: Episodes) -> Iterator[str]:
    """Columns that never change."""
    for key in ("observations", "actions"):
        if key in episodes.arrays and episodes.steps > 1:
            rows, names = columns_of(episodes, key)
            still = [name for name, flat in zip(names, np.ptp(rows, 0) == 0, strict=True) if flat]
            if still:
                yield f"{key}: {len(still)} of {len(names)} columns never change ({_some(still)})"


def action_range(episodes: Episodes) -> Iterator[str]:
    """robomimic's actions outside [-1, 1]."""
    if episodes.info.get("format") != "robomimic" or "actions" not in episodes.arrays:
        return
    rows, names = columns_of(episodes, "actions")
    largest = np.abs(rows).max(0).tolist()
    worst = [f"{name} to {most:.4g}" for name, most in zip(names, largest, strict=True) if most > 1]
    if worst:
        yield f"actions: {len(worst)} of {len(names)} columns leave [-1, 1], which robomimic needs ({_some(worst)})"


def lengths(episodes: Episodes) -> Iterator[str]:
    """Episodes too short to learn from."""
    short = np.flatnonzero(episodes.ends - episodes.starts == 1)
    if len(short):
        yield f"{len(short)} of {len(episodes)} episodes have a single env step, first episode {short[0]}"


def duplicates(episodes: Episodes) -> Iterator[str]:
    """Episodes that are the same row for row."""
    seen: dict[str, int] = {}
    pairs = []
    for number, (begin, end) in enumerate(zip(episodes.starts, episodes.ends, strict=True)):
        digest = hashlib.sha256()
        for key in ("observations", "actions"):
            if key in episodes.arrays:
                digest.update(np.ascontiguousarray(episodes.arrays[key][begin:end]).data)
        first = seen.setdefault(digest.hexdigest(), number)
        if first != number:
            pairs.append(f"{number} repeats {first}")
    if pairs:
        yield f"{len(pairs)} episodes repeat another one row for row ({_some(pairs)})"


def steps_between(episodes: Episodes) -> Iterator[str]:
    """Angles that wrap, and single steps far beyond all others (a lost tracker, a cut that no end marks)."""
    rows, names = columns_of(episodes, "observations")
    inside = inside_steps(episodes, len(rows))
    moves = np.abs(np.diff(rows, axis=0))[inside]
    if len(moves) < 100:
        return
    middle, usual = np.quantile(moves, [0.9, 0.999], axis=0)
    turn, span = _turns(rows, moves), np.ptp(rows, 0)
    angle = (0.9 * 2 * math.pi < span) & (span < 1.05 * 2 * math.pi)  # one turn, near enough to be an angle
    wraps = [f"{names[i]} ({turn[:, i].sum()} times)" for i in np.flatnonzero(turn.any(0) & angle)]
    if wraps:
        yield f"observations: angles wrap by 2 pi inside episodes ({_some(wraps)}); give sine and cosine instead"
    far = (moves > 10 * np.maximum(usual, 5 * middle)) & (moves > 1e-6) & ~turn
    ends = np.flatnonzero(inside) + 1  # row in which each step ends
    jumps = [f"{names[i]} in row {ends[far[:, i].argmax()]}" for i in np.flatnonzero(far.any(0))]
    if jumps:
        yield f"observations: {len(jumps)} columns jump inside an episode, over 10 times any usual step ({_some(jumps)})"


def _turns(rows: Floats, moves: Floats) -> NDArray[np.bool_]:
    """Which moves (M, C) are as large as a whole turn, in columns whose rows (N, C) may be angles."""
    turn: NDArray[np.bool_] = (moves > 2 * math.pi - 0.7) & (moves < 2 * math.pi + 0.1)
    return turn & (np.abs(rows).max(0) < 7)


def quaternions(episodes: Episodes) -> Iterator[str]:
    """Four columns that are a quaternion, by name or numbers: unit length, and no change of sign between env steps."""
    for key, quat in _quaternions(episodes):
        inside = inside_steps(episodes, len(quat))
        off = np.flatnonzero(np.abs(np.linalg.norm(quat, axis=1) - 1) > 1e-2)
        if len(off):
            yield f"{key}: not of unit length in {len(off)} rows, first row {off[0]}"
        flips = np.flatnonzero(((quat[1:] * quat[:-1]).sum(1) < 0) & inside)
        if len(flips):
            yield (
                f"{key}: the sign flips {len(flips)} times inside episodes, first in row {flips[0] + 1}; q and -q are the "
                "same rotation, keep one sign or use 6 numbers"
            )


def _quaternions(episodes: Episodes) -> Iterator[tuple[str, Floats]]:
    """Name and rows (N, 4) of groups called quat, and of other columns side by side that are of unit length in each row."""
    for array in ("observations", "actions"):
        if array not in episodes.arrays:
            continue
        rows, names = columns_of(episodes, array)
        groups = episodes.info.get("groups" if array == "observations" else "action_groups", {})
        found = {a: key for key, (a, b) in groups.items() if "quat" in key.lower() and b - a == 4}
        square = np.square(rows)
        for a in range(rows.shape[1] - 3):
            free = not any(abs(a - other) < 4 for other in found)
            moves = np.ptp(rows[:, a : a + 4], 0) > 0
            if free and moves.sum() > 1 and (np.abs(square[:, a : a + 4].sum(1) - 1) < 1e-2).all():
                found[a] = f"{array} {names[a]} to {names[a + 3]}"
        yield from ((key, rows[:, a : a + 4]) for a, key in found.items())


def stamps(episodes: Episodes) -> Iterator[str]:
    """Time stamps that are not one step apart: rows were dropped, or recorded at another rate."""
    key = clock_of(episodes.arrays)
    if key is None or episodes.arrays[key].dtype.kind not in "fiu":
        return
    steps = intervals(np.asarray(episodes.arrays[key]), episodes.ends)
    off = np.flatnonzero(np.abs(steps - episodes.dt) > 0.5 * episodes.dt)
    if len(off) > 0.01 * len(steps):
        worst = steps[np.abs(steps - episodes.dt).argmax()]
        yield (
            f"{key}: {len(off)} of {len(steps)} steps are not {episodes.dt:.4g} s long to a half, the worst is {worst:.4g} s; "
            "rows are taken for evenly spaced"
        )


def lacking(episodes: Episodes) -> Iterator[str]:
    """What the data do not have: pictures that were not read, and actions."""
    keys = episodes.info.get("left_out")
    if keys:
        yield f"not read: {_some(list(keys))} (pictures, video, text, or rows that do not match)"
    if "actions" not in episodes.arrays:
        yield "no actions: imitation needs them; read with action=next where the next state is the action (next:3: 3 steps on)"


def action_kind(episodes: Episodes) -> Iterator[str]:
    """Whether actions are targets (near the next observation) or steps (along its change): a guess."""
    if "action_mode" in episodes.info:
        yield f"the file's controller takes {episodes.info['action_mode']} actions (stated, not guessed)"
        return
    if "actions" not in episodes.arrays or episodes.steps < 50:
        return
    (seen, _), (acts, labels) = columns_of(episodes, "observations"), columns_of(episodes, "actions")
    inside = inside_steps(episodes, len(seen))
    after, change, acts = seen[1:][inside], np.diff(seen, axis=0)[inside], acts[:-1][inside]
    if not all(np.isfinite(part).all() for part in (after, change, acts)) or len(acts) < 50:
        return
    columns = list(zip(labels, acts.T[:, :, None], strict=True))
    same = [label for label, act in columns if np.ptp(act) and (after == act).all(0).any()]
    if same:
        yield f"{len(same)} action columns equal a column of the next observation exactly ({_some(same)}): targets"
        return
    apart = 0.5 * np.maximum(after.std(0), 1e-12)
    near = [label for label, act in columns if (np.sqrt(((after - act) ** 2).mean(0)) < apart).any()]
    along = _correlation(acts, change).max(1, initial=0)
    moved = [n for n, size in zip(labels, along, strict=True) if n not in near and size > 0.7]
    # A force or a velocity command shows in the change of the state too, so this stays a guess.
    kinds = {
        "targets (absolute): near": near,
        "steps (delta), forces or velocities: along the change of": moved,
    }
    kind, found = max(kinds.items(), key=lambda item: len(item[1]))
    if 2 * len(found) >= len(labels):
        yield f"actions look like {kind} the observation in {len(found)} of {len(labels)} columns ({_some(found)})"


def targets(episodes: Episodes) -> dict[int, int]:
    """Action column -> observation column that it is a target for: near what that is next, and not far from what it is now.

    Angles that wrap are left out, as a difference over the seam means nothing; fewer than 50 env steps tell nothing.
    """
    (seen, _), (acts, _) = columns_of(episodes, "observations"), columns_of(episodes, "actions")
    rows = inside_steps(episodes, len(seen))
    rows &= np.isfinite(seen[1:]).all(1) & np.isfinite(seen[:-1]).all(1) & np.isfinite(acts[:-1]).all(1)
    now, after, acts = seen[:-1][rows], seen[1:][rows], acts[:-1][rows]
    if len(acts) < 50:
        return {}
    seam = _turns(seen, np.abs(after - now)).any(0)
    off, kept = _apart(acts, after), _apart(acts, now)
    near = (off < 0.5 * after.std(0)) & (kept < 0.5 * acts.std(0)[:, None]) & ~seam
    found: dict[int, int] = {}
    share = np.where(near, off / np.maximum(after.std(0), 1e-12), np.inf)
    for flat in np.argsort(share, axis=None)[: int(near.sum())].tolist():
        column, of = divmod(flat, share.shape[1])
        if column not in found and of not in found.values():
            found[column] = of
    return found


def _apart(a: Floats, b: Floats) -> Floats:
    """(A, C) root of the mean squared difference of each pair of columns."""
    means = a.mean(0)[:, None] - b.mean(0)  # told apart, so that columns far from 0 lose nothing to rounding
    a, b = a - a.mean(0), b - b.mean(0)
    square = np.square(a).mean(0)[:, None] - 2 * a.T @ b / len(a) + np.square(b).mean(0) + np.square(means)
    return np.asarray(np.sqrt(np.maximum(square, 0)))


def _correlation(a: Floats, b: Floats) -> Floats:
    """(A, C) size of the correlation of each pair of columns; 0 for columns that do not change."""
    a, b = a - a.mean(0), b - b.mean(0)
    size = np.outer(np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0))
    out: Floats = np.abs(np.divide(a.T @ b, size, out=np.zeros_like(size), where=size > 1e-9))
    return out


def gripper(episodes: Episodes) -> Iterator[str]:
    """Guess which action column is a gripper, and its sign."""
    if "actions" not in episodes.arrays:
        return
    acts, labels = columns_of(episodes, "actions")
    opening = [s for key, s in episodes.info.get("groups", {}).items() if "gripper_qpos" in key]
    rows, _ = columns_of(episodes, "observations")
    inside = inside_steps(episodes, len(rows))
    for column, label in enumerate(labels):
        values = np.unique(acts[:1000, column])
        if not set(values) <= {-1.0, 0.0, 1.0} or len(values) < 2:
            continue
        sign = "robosuite's convention is -1 to open, +1 to close"
        if opening:
            start, stop = opening[0]
            width = np.abs(rows[:, start:stop]).sum(1)
            trend = float((np.diff(width) * acts[:-1, column])[inside].sum())
            sign = f"+1 {'opens' if trend > 0 else 'closes'} it in these data"
        yield f"{label} takes only the values {values.tolist()}: a gripper; {sign}"


_OF_ROWS: tuple[Check, ...] = (not_finite, constant, action_range, lengths)
PROBLEMS: tuple[Check, ...] = (*_OF_ROWS, duplicates, steps_between, stamps, quaternions)
GUESSES: tuple[Check, ...] = (action_kind, gripper)
