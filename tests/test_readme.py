import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```python([^\n]*)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_of_the_page_runs(page, tmp_path, monkeypatch):
    """Blocks of a page share their names; a fence that says `python no-run` is passed over."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    text, names = page.read_text(), {"__name__": "__page__"}
    for block in FENCE.finditer(text):
        assert block[1].strip() in ("", "no-run"), f"{page.name}: unknown fence 'python{block[1]}'"
        if not block[1].strip():
            before = text[: block.start(2)].count("\n")  # so that a traceback names the line of the page
            exec(compile("\n" * before + block[2], str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_of_the_page_lead_somewhere(page):
    gone = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not gone


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_nothing_is_left_to_fill_in(page):
    assert not re.findall(r"@[A-Z]+@|TODO|TBD", page.read_text())
