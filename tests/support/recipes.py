"""Follow a recipe of docs/recipes word for word: its files are written, its commands run.

=================================  ==================================================
```` ```bash ````                  run by ``bash -euo pipefail``
```` ```python ````                run as a script of its own
```` ```text ````                  right after one of these: exactly what it printed
```` ```{code-block} LANGUAGE ```` with ``:caption: NAME``: written to the file NAME;
                                   without: shown, and not run
=================================  ==================================================

A block that starts with ``# needs: torch`` is left out where there is no such module.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = ("bash", "python")
SECONDS = 300  # for one block
ADMONITIONS = ("{note}", "{tip}", "{warning}", "{admonition}", "{image}", "{figure}")


@dataclass
class Block:
    """One fenced block of a page."""

    kind: str  # "bash", "python", "text", or a directive such as "{code-block} text"
    line: int  # of its first line of code, counted from 1
    text: str
    caption: str = ""
    follows: bool = False  # directly after the block before it

    @property
    def missing(self) -> str:
        """The module that it needs and that is not installed; else empty."""
        need = re.match(r"# needs: ([\w.]+)\n", self.text)
        return need[1] if need and importlib.util.find_spec(need[1]) is None else ""


class RecipeError(AssertionError):
    """A recipe that cannot be followed; the message says where, and what happened."""


def read_blocks(text: str, page: str) -> list[Block]:
    """All fenced blocks of a page, in order.

    A fence that the runner does not know is an error: it might be code that nobody runs.
    """
    blocks: list[Block] = []
    lines, at, end = text.splitlines(), 0, -1
    while at < len(lines):
        fence = re.match(r"(\s*)(`{3,}|~{3,}|:{3,})(.*)", lines[at])
        if not fence:
            at += 1
            continue
        indent, ticks, kind = fence[1], fence[2], fence[3].strip()
        known = kind in (*RUN, "text") or kind.split(" ")[0] in ("{code-block}", *ADMONITIONS)
        if indent or not known or ticks != "```":
            raise RecipeError(
                f"{page}, line {at + 1}: {lines[at]!r}: expected ```bash, ```python, ```text or "
                "```{code-block} LANGUAGE at the start of a line"
            )
        try:
            close = lines.index(ticks, at + 1)
        except ValueError:
            raise RecipeError(f"{page}, line {at + 1}: a block without an end") from None
        inside, begin, caption = lines[at + 1 : close], at + 2, ""
        while kind.startswith("{") and inside and re.match(r":\w+:", inside[0]):
            name, _, value = inside.pop(0)[1:].partition(":")
            caption = value.strip() if name == "caption" else caption
            begin += 1
        while kind.startswith("{") and inside and not inside[0].strip():
            inside.pop(0)
            begin += 1
        follows = bool(blocks) and not "".join(lines[end + 1 : at]).strip()
        blocks.append(Block(kind, begin, "\n".join(inside) + "\n", caption, follows))
        at, end = close + 1, close
    return blocks


def follow(page: Path, folder: Path) -> list[str]:
    """Do what a page says, in a folder.

    Returns
    -------
    list of str
        What was left out for want of a module, such as "line 12 needs torch".

    Raises
    ------
    RecipeError
        If a block fails, prints something else than the page says, or the page runs nothing.
    """
    blocks = read_blocks(page.read_text(encoding="utf-8"), page.name)
    if not any(block.kind in RUN for block in blocks):
        raise RecipeError(f"{page.name} has nothing to run; expected ```bash or ```python blocks")
    bin_folder = folder.parent / f"{folder.name}-bin"
    bin_folder.mkdir()
    python = bin_folder / "python"  # the one of the tests, whatever else is on the PATH
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(
            [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])]
        ),
    }
    left_out, printed = [], None
    for block in blocks:
        if block.kind == "text":
            if printed is not None and block.follows and printed != block.text:
                raise RecipeError(
                    f"{page.name}, line {block.line}: the page says\n{block.text}"
                    f"and what was printed is\n{printed}"
                )
        elif block.caption:
            _write(block, folder, page.name)
        elif block.kind in RUN:
            printed = None
            if block.missing:
                left_out.append(f"line {block.line} needs {block.missing}")
            else:
                printed = _run(block, folder, environment, page.name)
    return left_out


def _write(block: Block, folder: Path, page: str) -> None:
    target = (folder / block.caption).resolve()
    if folder.resolve() not in target.parents:
        raise RecipeError(f"{page}, line {block.line}: {block.caption!r} is not inside the folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(block.text, encoding="utf-8")


def _run(block: Block, folder: Path, environment: dict[str, str], page: str) -> str:
    """What a block prints on standard output; RecipeError if it fails."""
    # empty lines before it, so that messages name the lines of the page
    code = "\n" * (block.line - 1) + block.text
    shell = ["bash", "-euo", "pipefail", "-c", code]
    script = [sys.executable, "-"]
    try:
        done = subprocess.run(
            shell if block.kind == "bash" else script,
            input="" if block.kind == "bash" else code,
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise RecipeError(f"{page}, line {block.line}: took more than {SECONDS} s") from None
    if done.returncode:
        raise RecipeError(
            f"{page}, line {block.line}: exit code {done.returncode}\n{block.text}"
            f"printed\n{done.stdout[-4000:]}\nand on standard error\n{done.stderr[-4000:]}"
        )
    return done.stdout
