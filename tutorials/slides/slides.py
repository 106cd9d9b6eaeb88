"""The slides of the course, three sessions: every figure is computed with minifbi, here and now.

    python tutorials/slides/slides.py               # writes slides.pdf beside it, 1 to 3 minutes
    python tutorials/slides/slides.py --png pages   # and every page as a picture
    python tutorials/slides/slides.py --out my.pdf --quick  # few images: only to try it

Figures that need many trainings come from docs/reproduction/, the project's own full run.  To
change a slide, change its function; docs/course.md says which belongs to which minute.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from slides_1 import first_session, opening
from slides_2 import second_session
from slides_3 import third_session
from slides_material import train
from slides_page import Deck

HERE = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the slides of the course.")
    parser.add_argument("--out", type=Path, default=HERE / "slides.pdf", help="the PDF")
    parser.add_argument("--png", type=Path, help="folder for a picture of each page")
    parser.add_argument("--quick", action="store_true", help="few images: only to try it")
    options = parser.parse_args(arguments)
    material = train(options.quick)
    with Deck(options.out, options.png) as deck:
        opening(deck)
        first_session(deck, material)
        second_session(deck, material)
        third_session(deck, material)
    print(f"{deck.number} pages in {options.out.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
