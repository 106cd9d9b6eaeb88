"""Walk the built site: every link leads to a page that is there, and to an anchor on it.

    python docs/check_site.py docs/_build/html

Looks at links, pictures, styles and scripts of all pages, and whether the search finds what the
site is about.  Links to the web are not followed.  Ends with 1 and a list if something is missing.
"""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

SEARCHED = ("relevance", "convolution", "gradient", "checkpoint")
# the search names its pages when it runs; genindex of an empty letter and the like do not occur
IGNORED = re.compile(r"^([a-z][a-z0-9+.-]*:|//|data:)")


class Page(HTMLParser):
    """What a page links to, and which anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.doubled: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect from one tag."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                if name == "id" and value in self.anchors:
                    self.doubled.add(value)
                self.anchors.add(value)
            elif name in ("href", "src"):
                self.links.append(value)


def problems(root: Path) -> tuple[list[str], int]:
    """Everything that is wrong with a site.

    Parameters
    ----------
    root : Path
        The folder with its index.html.

    Returns
    -------
    list of str
        One sentence each; empty if all is well.
    int
        How many links were looked at.
    """
    root = root.resolve()
    pages = {p: Page(p.read_text(encoding="utf-8")) for p in sorted(root.rglob("*.html"))}
    found, count = [], 0
    for path, page in pages.items():
        if path.is_relative_to(root / "_downloads"):
            continue  # a file that is handed on as it is
        where = path.relative_to(root).as_posix()
        for link in page.links:
            if IGNORED.match(link):
                continue
            count += 1
            address, anchor = urldefrag(link)
            target = path
            if address:
                target = (path.parent / unquote(address.split("?")[0])).resolve()
                target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{where}: no file for {link}")
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                found.append(f"{where}: no anchor for {link}")
    found += search_problems(root)
    return found, count


def search_problems(root: Path) -> list[str]:
    """Words that a reader would look for and the search does not find."""
    script = root / "searchindex.js"
    if not script.exists():
        return ["there is no search index"]
    index = json.loads(re.sub(r"^Search\.setIndex\((.*)\);?\s*$", r"\1", script.read_text("utf-8")))
    words = {**index["terms"], **index["titleterms"]}
    # the index holds stems: "relevance" is "relev"
    return [
        f"the search does not find {word!r}"
        for word in SEARCHED
        if not any(word.startswith(stem) and len(stem) > 4 and words[stem] != [] for stem in words)
    ]


def main(arguments: list[str]) -> int:
    """Check the site in the folder that is given."""
    if len(arguments) != 1 or not (Path(arguments[0]) / "index.html").exists():
        print("usage: python docs/check_site.py FOLDER, the folder of the built index.html")
        return 2
    found, count = problems(Path(arguments[0]))
    for line in found:
        print(line)
    print(f"{count} links, {len(found)} of them wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
