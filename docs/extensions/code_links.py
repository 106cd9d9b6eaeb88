"""Sphinx extension: names in the pages become links, and the source is a part of the site.

- Each file of minifbi/ and tests/ is a page, ``source/minifbi/fbi.html``, with an anchor a line.
- `minifbi.fbi.forward_pass` in a page links to its entry in the reference; on the page of
  equations it links to its line, as do `tests/fbi/test_fbi.py::test_closed_form` and the tag of
  a tutorial's cell.  Links to .py files lead to their pages.
- What leads nowhere is a warning, which makes the build fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Any

import places
from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)
EQUATIONS = "equations"
FOLDERS = ("minifbi", "tests")
NAME = re.compile(r"minifbi(\.[A-Za-z_]\w*)+")
TEST = re.compile(r"tests/[\w/]+\.py::[\w:]+")
TAG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


# ---- the source as pages -----------------------------------------------------------------
def page_name(path: str) -> str:
    """The page of a file."""
    return f"source/{path.removesuffix('.py')}"


def is_shown(path: str) -> bool:
    """Whether a file has a page."""
    return path.endswith(".py") and path.split("/")[0] in FOLDERS


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file; each line has the anchor L and its number."""
    if app.builder.format != "html":
        return
    formatter, lexer = HtmlFormatter(nowrap=True), PythonLexer(stripnl=False)
    for folder in FOLDERS:
        for file in sorted((places.ROOT / folder).rglob("*.py")):
            path = file.relative_to(places.ROOT).as_posix()
            lines = highlight(file.read_text(encoding="utf-8"), lexer, formatter).splitlines()
            numbered = "\n".join(
                f'<span class="line" id="L{n}"><a class="number" href="#L{n}">{n}</a>{line}</span>'
                for n, line in enumerate(lines, start=1)
            )
            body = (
                f"<h1>{escape(path)}</h1>"
                f'<div class="highlight source-page"><pre>{numbered}\n</pre></div>'
            )
            yield page_name(path), {"title": path, "body": body}, "page.html"


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """For sphinx.ext.linkcode: the [source] beside each entry of the reference."""
    if domain != "py" or not info["module"]:
        return None
    try:
        path, line = places.locate(f"{info['module']}.{info['fullname']}".rstrip("."))
    except LookupError:
        return None  # an attribute that is described but not set in the class
    return f"{page_name(path)}.html#L{line}"  # all pages of the reference lie beside source/


# ---- names as links ----------------------------------------------------------------------
class PlainLinks(SphinxTransform):
    """Links to files of the source lead to their pages, not to a download."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        for node in list(self.document.findall(addnodes.download_reference)):
            target = re.sub(r"^(\.\./)+", "", node["reftarget"])
            if is_shown(target) and (places.ROOT / target).exists():
                link = nodes.reference("", "", *node.children, source_page=target)
                link["refuri"] = f"source:{target}"
                node.replace_self(link)


class CellAnchors(SphinxTransform):
    """A cell of a notebook with the tag eq-1 gets the anchor cell-eq-1."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        for node in self.document.findall(nodes.container):
            for tag in (node.get("cell_metadata") or {}).get("tags", []):
                node["ids"].append(f"cell-{tag}")


def relative(app: Sphinx, docname: str, page: str) -> str:
    """The address of a page as seen from another."""
    return app.builder.get_relative_uri(docname, page)


def address(app: Sphinx, docname: str, text: str, last_column: bool) -> str | None:
    """Where a name in a page leads; None if it is no name.

    Raises
    ------
    LookupError
        If it looks like one and leads nowhere.
    """
    if TEST.fullmatch(text):
        path, line = places.locate_test(text)
    elif NAME.fullmatch(text):
        objects = app.env.get_domain("py").data["objects"]  # type: ignore[attr-defined]
        if text in objects and docname != EQUATIONS:
            return f"{relative(app, docname, objects[text].docname)}#{objects[text].node_id}"
        path, line = places.locate(text)
    elif docname == EQUATIONS and last_column and TAG.fullmatch(text):
        notebook = places.locate_cell(text)
        return f"{relative(app, docname, f'tutorials/{notebook}')}#cell-{text}"
    else:
        return None
    return f"{relative(app, docname, page_name(path))}#L{line}"


def link_names(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Make links of the names in a page."""
    if app.builder.format != "html":
        return
    for link in doctree.findall(nodes.reference):
        if link.get("source_page"):
            link["refuri"] = relative(app, docname, page_name(link["source_page"]))
    if docname.startswith(("tutorials/", "api")):
        return
    for literal in list(doctree.findall(nodes.literal)):
        if isinstance(literal.parent, nodes.reference):
            continue
        entry = literal.parent.parent if literal.parent else None
        last = isinstance(entry, nodes.entry) and entry.parent.index(entry) == len(entry.parent) - 1
        try:
            uri = address(app, docname, literal.astext(), last)
        except LookupError as error:
            logger.warning(str(error), location=literal, type="code_links")
            continue
        if uri:
            link = nodes.reference("", "", internal=True, refuri=uri)
            literal.replace_self(link)
            link += literal


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(PlainLinks)
    app.add_transform(CellAnchors)
    app.connect("html-collect-pages", source_pages)
    app.connect("doctree-resolved", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
