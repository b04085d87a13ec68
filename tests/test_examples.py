"""The notebooks run as they stand, cell by cell."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    if path.stem == "drive_the_arm":
        pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    names = {"__name__": "__notebook__"}
    assert cells and not any(c["outputs"] for c in cells)  # pages of the repository, not of a machine
    for i, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"{path.name}, cell {i}", "exec"), names)
    if path.stem == "plan_in_a_maze":
        assert names["info"]["success"]
        size, start, end, how = str(names["plan"]).splitlines()
        assert size.startswith("plan of 32 steps, 5.58 s") and start.startswith("from [6.95, 1.91")
        assert end.startswith("to   [") and "candidate 1 of 1, feasible, cost 0; 4 network calls" in how
    if path.stem == "drive_the_arm":
        assert names["report"].status.sent > 10
