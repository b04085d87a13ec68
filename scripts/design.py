"""Draw what imports what, layer by layer, from the imports themselves: python scripts/design.py [--out FILE.svg]."""

import argparse
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).parents[1]
WIDTH = 1.6
TINTS = {"deploy": "#fbe3cf", "envs": "#dcefdc", "policies": "#dcefdc", "cli": "#e6e6e6", "dfplan": "#e6e6e6"}


def needed(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows that no longer way replaces."""
    targets = {a: {t for s, t in arrows if s == a} for a, _ in arrows}

    def below(name: str) -> set[str]:
        return set().union(*({t} | below(t) for t in targets.get(name, ())))

    return {(a, b) for a, b in arrows if not any(b in below(c) for c in targets[a] - {b})}


def places(rows: list[list[str]], arrows: set[tuple[str, str]]) -> dict[str, float]:
    """x of each box: near what it is joined to, and a box's width from its neighbours."""
    x = {name: float(i - (len(row) - 1) / 2) for row in rows for i, name in enumerate(row)}
    joined = {name: [b if a == name else a for a, b in arrows if name in (a, b)] for name in x}
    for _ in range(60):
        for row in rows:
            want = {n: float(np.mean([x[o] for o in joined[n]] or [x[n]])) for n in row}
            order = sorted(row, key=want.__getitem__)
            at = np.array([want[n] for n in order])
            for i in range(1, len(at)):
                at[i] = max(at[i], at[i - 1] + WIDTH)
            at += np.mean([want[n] for n in order]) - at.mean()
            x |= dict(zip(order, at.tolist(), strict=True))
    return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/pictures/design.svg")
    out = parser.parse_args().out
    rules = runpy.run_path(str(ROOT / "tests/architecture.py"))
    rows, arrows = [row.split() for row in rules["LAYERS"]], needed(rules["arrows"]())
    x = places(rows, arrows)
    y = {name: i for i, row in enumerate(rows) for name in row}
    plt.rcParams["svg.hashsalt"] = "design"  # the same picture is the same file
    figure = plt.figure(
        figsize=(8, 0.45 * len(rows)), dpi=72
    )  # as SVG has it: arrows end at boxes already drawn
    axes = figure.add_axes((0, 0, 1, 1))
    boxes = {}
    for name, height in y.items():
        look = {
            "boxstyle": "round,pad=0.35",
            "fc": TINTS.get(name.split(".")[0], "#dbe7f5"),
            "ec": "#555555",
            "lw": 0.8,
        }
        text = axes.text(
            x[name], height, name.replace(".", "/"), ha="center", va="center", fontsize=9, bbox=look
        )
        boxes[name] = text.get_bbox_patch()
    for a, b in sorted(arrows):
        bend = 0.0 if y[a] - y[b] < 2 else 0.12 * np.sign(x[a] - x[b] or 1)
        curve = {"arrowstyle": "-|>", "color": "#8a8a8a", "lw": 0.9, "connectionstyle": f"arc3,rad={bend}"}
        ends = {"patchA": boxes[a], "patchB": boxes[b], "shrinkA": 1, "shrinkB": 1}
        axes.annotate("", (x[b], y[b]), (x[a], y[a]), arrowprops=curve | ends, zorder=0)
    axes.set(xlim=(min(x.values()) - 0.7, max(x.values()) + 0.7), ylim=(-0.6, len(rows) - 0.4))
    axes.axis("off")
    figure.canvas.draw()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=72, metadata={"Date": None} if out.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
