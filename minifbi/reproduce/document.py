"""A report as a list of blocks, written as Markdown and as one HTML file."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph.  In all texts `code` and **bold** mean what they mean in Markdown."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines as they are."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table; the first column is text, the others are numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG file beside the report."""

    file: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim and what became of it."""

    title: str
    verdict: str
    sentences: Sequence[str] = field(default_factory=tuple)


Block = Heading | Text | Bullets | Code | Table | Picture | Verdict


def to_markdown(blocks: Sequence[Block]) -> str:
    """The report as Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Text(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Code(text):
            return f"```text\n{text}\n```"
        case Table(header, rows, caption):
            lines = [
                _row(header),
                _row(["---", *["---:"] * (len(header) - 1)]),
                *map(_row, rows),
            ]
            return "\n".join(lines) + (f"\n\n*{caption}*" if caption else "")
        case Picture(file, alt, caption):
            return f"![{alt}]({file})" + (f"\n\n*{caption}*" if caption else "")
        case Verdict(title, verdict, sentences):
            return f"**{title}: {verdict}.** " + " ".join(sentences)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


STYLE = """
:root { --ink: #1c1c1c; --soft: #5a5a5a; --line: #d9d9d9; --back: #f6f6f4; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem 1.2rem 4rem; color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { margin-top: 2.6rem; font-size: 1.3rem;
  border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
h3 { font-size: 1.08rem; margin-top: 1.8rem; }
p, li { max-width: 46rem; }
code { background: var(--back); padding: .05em .3em; border-radius: 3px; font-size: .92em;
  overflow-wrap: anywhere; }
pre { background: var(--back); padding: .8rem 1rem; overflow-x: auto; border-radius: 4px; }
figure { margin: 1.4rem 0; } figcaption { color: var(--soft); font-size: .9rem; max-width: 46rem; }
.scroll { overflow-x: auto; }
.scroll img { display: block; width: 100%; min-width: 46rem; height: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: white;
  white-space: normal; min-width: 8rem; max-width: 15rem; }
thead th { white-space: normal; border-bottom: 2px solid var(--ink); vertical-align: bottom; }
.verdict { border-left: 5px solid #888; background: var(--back); padding: .6rem 1rem;
  margin: .9rem 0; } .verdict p { margin: .3rem 0; }
.verdict b { padding: .05em .5em; border: 1.5px solid; border-radius: 3px; white-space: nowrap; }
.agrees { border-color: #2b7a4b; } .agrees b { color: #1f6b3d; }
.partly { border-color: #b07a00; } .partly b { color: #855c00; }
.not { border-color: #b3261e; } .not b { color: #a3211a; }
@media (max-width: 40rem) { body { padding: .6rem .8rem 3rem; font-size: 15px; }
  th:first-child, td:first-child { max-width: 9.5rem; } }
"""


def to_html(blocks: Sequence[Block], folder: Path) -> str:
    """The report as one page that needs nothing else: pictures are inside.

    Parameters
    ----------
    blocks : sequence of block
        The first is the title.
    folder : Path
        Where the pictures are.

    Returns
    -------
    str
    """
    title = next((b.text for b in blocks if isinstance(b, Heading)), "report")
    body = "\n".join(_html(block, folder) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block, folder: Path) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Text(text):
            return f"<p>{_inline(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Table(header, rows, caption):
            head = "".join(f"<th>{_inline(cell)}</th>" for cell in header)
            body = "".join(f"<tr>{''.join(map(_td, row))}</tr>" for row in rows)
            table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            return f'<figure><div class="scroll">{table}</div>{_caption(caption)}</figure>'
        case Picture(file, alt, caption):
            data = base64.b64encode((folder / file).read_bytes()).decode("ascii")
            image = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'
            return f'<figure><div class="scroll">{image}</div>{_caption(caption)}</figure>'
        case Verdict(title, verdict, sentences):
            lines = "".join(f"<p>{_inline(sentence)}</p>" for sentence in sentences)
            head = f"<p><strong>{_inline(title)}</strong> &nbsp;<b>{html.escape(verdict)}</b></p>"
            return f'<div class="verdict {verdict.split()[0]}">{head}{lines}</div>'


def _td(cell: str) -> str:
    # a pair of numbers takes two lines, to keep the table narrower than the screen
    return f"<td>{_inline(cell).replace(' / <strong>', ' /<br><strong>')}</td>"


def _caption(text: str) -> str:
    return f"<figcaption>{_inline(text)}</figcaption>" if text else ""


def _inline(text: str) -> str:
    text = html.escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"(?<=\d) %", "&nbsp;%", text)  # a number keeps its unit on its line
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
