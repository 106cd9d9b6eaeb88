"""The slides can be made, and stand in the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

slides_page = pytest.importorskip("slides_page", reason="installed without tutorials")

SLIDES = Path(__file__).parents[2] / "tutorials" / "slides"
GUIDE = Path(__file__).parents[2] / "docs" / "course.md"


def titles():
    """The titles of all pages, from the code."""
    text = "\n".join(p.read_text(encoding="utf-8") for p in sorted(SLIDES.glob("slides_[1-3].py")))
    return [title for title in re.findall(r'deck\.page\("(.*?)"\)', text) if title]


def test_the_guide_names_slides_that_exist():
    text = GUIDE.read_text(encoding="utf-8")
    columns = [
        line.split("|")[3]
        for line in text.splitlines()
        if re.match(r"\| \d+ \|", line) and "slide" in line.split("|")[3]
    ]
    named = [name for cell in columns for name in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", cell)]
    assert len(named) > 15
    for name in named:
        begin = name.removesuffix(" ...")
        assert any(title.startswith(begin) for title in titles()), name


def test_the_committed_slides_are_a_pdf_of_all_pages():
    data = (SLIDES / "slides.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type /Page\b", data))
    openings = 1 + 3  # the title, and one for each session
    assert pages == len(titles()) + openings


@pytest.mark.slow
def test_a_quick_run_makes_every_page(tmp_path, capsys):
    slides = pytest.importorskip("slides")
    assert slides.main(["--quick", "--out", str(tmp_path / "s.pdf")]) == 0
    assert f"{len(titles()) + 4} pages in s.pdf" in capsys.readouterr().out
