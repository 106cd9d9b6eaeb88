"""Make the notebooks from their sources, for students and for lecturers.

A source, ``NN_name.py`` (jupytext's percent format), holds an exercise together with its
solution::

    # %%
    def area(radius):
        # solution
        # student: # the area of a circle of this radius
        return np.pi * radius**2
        # end solution

    check.area(area)

From it come ``../NN_name.ipynb``, where the block is only the ``# student:`` lines (and ``...``
where these hold no code), run and kept with its outputs; and ``../solutions/NN_name.ipynb``, where
it is only the solution, without outputs.  A whole cell with the tag ``solution`` is left out for
students.  So the two cannot drift apart.

    python tutorials/sources/build.py                # all that are not in step with their source
    python tutorials/sources/build.py 01_tensors_and_the_tape.py
    python tutorials/sources/build.py --check        # say which are not, change nothing
    python tutorials/sources/build.py --handout DIR  # what students get: no source, no solution
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

HERE = Path(__file__).resolve().parent
TUTORIALS = HERE.parent
SOLUTIONS = "solutions"
BEGIN, END, STUDENT = "# solution", "# end solution", "# student:"


class SourceError(ValueError):
    """A source whose markers do not match."""


def sources(folder: Path = HERE) -> list[Path]:
    """The sources of notebooks: the .py files with jupytext's header."""
    return [p for p in sorted(folder.glob("*.py")) if p.read_text("utf-8").startswith("# ---\n")]


# ---- one text, two versions --------------------------------------------------------------
def split_solution(text: str, where: str = "cell") -> tuple[str, str]:
    """The student's and the lecturer's version of a cell.

    Parameters
    ----------
    text : str
        Source of a code cell.
    where : str
        For error messages.

    Returns
    -------
    student, solution : str
        Equal where the cell has no solution.

    Raises
    ------
    SourceError
        If the markers are not in pairs, or a ``# student:`` line stands outside of one.
    """
    student: list[str] = []
    solution: list[str] = []
    block: list[str] | None = None  # the student's lines of the open block
    for line in text.splitlines():
        word, indent = line.strip(), line[: len(line) - len(line.lstrip())]
        if word == BEGIN:
            if block is not None:
                raise SourceError(f"{where}: {BEGIN!r} inside of a solution; end that one first")
            block = []
        elif word == END:
            if block is None:
                raise SourceError(f"{where}: {END!r} without {BEGIN!r} before it")
            if all(not kept.strip() or kept.strip().startswith("#") for kept in block):
                block.append(f"{indent}...")
            student += block
            block = None
        elif word.startswith(STUDENT):
            if block is None:
                raise SourceError(f"{where}: {word!r} outside of a solution")
            block.append(indent + word[len(STUDENT) :].removeprefix(" "))
        else:
            if block is None:
                student.append(line)
            solution.append(line)
    if block is not None:
        raise SourceError(f"{where}: {BEGIN!r} without {END!r} after it")
    return "\n".join(student), "\n".join(solution)


def make(source: Path, solutions: bool = False) -> Any:
    """The notebook of a source, not run.

    Parameters
    ----------
    source : Path
    solutions : bool
        The lecturer's version rather than the student's.

    Returns
    -------
    nbformat.NotebookNode
        Its cells' ids are made from their text, so that a rebuilt notebook has small diffs.
    """
    notebook = jupytext.read(source)
    # no pairing: saving a student's notebook must not write over the source with its solutions
    notebook.metadata.pop("jupytext", None)
    cells = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            versions = split_solution(cell.source, f"{source.name}, cell {number}")
            cell.source = versions[int(solutions)]
        if solutions or "solution" not in cell.metadata.get("tags", []):
            cells.append(cell)
    if solutions:
        made_from = f"made from `../sources/{source.name}` by `../sources/build.py`"
        note = f"Solutions, {made_from}: edit there, not here."
        path = 'import sys\n\nsys.path.insert(0, "..")  # for the checks'
        cells = [new_markdown_cell(note), new_code_cell(path), *cells]
    taken: set[str] = set()
    for cell in cells:
        name, again = "", 0
        while not name or name in taken:
            name = hashlib.sha256(f"{cell.cell_type}{again}{cell.source}".encode()).hexdigest()[:12]
            again += 1
        taken.add(name)
        cell["id"] = name
    notebook.cells = cells
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def has_solutions(source: Path) -> bool:
    """Whether the two versions of a source differ."""
    student, lecturer = make(source), make(source, solutions=True)
    return content(student) != content(lecturer)[2:]


def content(notebook: Any) -> list[tuple[str, str, list[str]]]:
    """What two notebooks in step agree in: kinds, texts and tags of the cells."""
    return [(c.cell_type, c.source, list(c.metadata.get("tags", []))) for c in notebook.cells]


# ---- files -------------------------------------------------------------------------------
def for_students(source: Path) -> Path:
    """Where the students' notebook of a source belongs: beside the folder of the sources."""
    return source.parent.parent / f"{source.stem}.ipynb"


def targets(source: Path) -> dict[Path, Any]:
    """Where the notebooks of a source belong, and the notebooks, not run."""
    student = for_students(source)
    found = {student: make(source)}
    if has_solutions(source):
        found[student.parent / SOLUTIONS / student.name] = make(source, solutions=True)
    return found


def in_step(path: Path, made: Any) -> bool:
    """Whether a notebook on disk says what its source says."""
    return path.exists() and content(nbformat.read(path, as_version=4)) == content(made)


def execute(notebook: Any, folder: Path, timeout: float = 300) -> Any:
    """Run a notebook from top to bottom, in `folder`; outputs that change by themselves go."""
    client = nbclient.NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    notebook.metadata.get("language_info", {}).pop("version", None)
    return notebook


def keep_outputs(path: Path, made: Any) -> bool:
    """Take the outputs over from the notebook on disk, if only its text has changed since."""
    if not path.exists():
        return False
    old = nbformat.read(path, as_version=4)
    ours, theirs = ([c for c in nb.cells if c.cell_type == "code"] for nb in (made, old))
    if [cell.source for cell in ours] != [cell.source for cell in theirs]:
        return False
    for cell, known in zip(ours, theirs, strict=True):
        cell.outputs, cell.execution_count = known.outputs, known.execution_count
    made.metadata = old.metadata
    return True


def build(source: Path, force: bool = False) -> list[Path]:
    """Write the notebooks of a source that are not in step with it; say which.

    A notebook is run again if its code has changed, or with `force`.
    """
    written = []
    for path, notebook in targets(source).items():
        if in_step(path, notebook) and not force:
            continue
        if path == for_students(source) and (force or not keep_outputs(path, notebook)):
            notebook = execute(notebook, path.parent)
        path.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, path)
        written.append(path)
    return written


def handout(folder: Path) -> list[Path]:
    """Copy what students get into `folder`: notebooks and checks, no source and no solution."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [for_students(source) for source in sources()]
    files += sorted((TUTORIALS / "checks").glob("*.py"))
    (folder / "checks").mkdir(exist_ok=True)
    copies = [Path(shutil.copy(file, folder / file.relative_to(TUTORIALS))) for file in files]
    return [*copies, Path(shutil.copy(HERE / "handout.md", folder / "README.md"))]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the notebooks from their sources.")
    parser.add_argument("names", nargs="*", help="sources (default: all)")
    parser.add_argument("--check", action="store_true", help="only say what is out of step")
    parser.add_argument("--force", action="store_true", help="run again what is in step, too")
    parser.add_argument("--handout", metavar="DIR", help="copy what students get into DIR")
    options = parser.parse_args(arguments)
    if options.handout:
        for path in handout(Path(options.handout)):
            print(path)
        return 0
    names = {re.sub(r"\.(py|ipynb)$", "", Path(name).name) for name in options.names}
    chosen = [source for source in sources() if not names or source.stem in names]
    if missing := names - {source.stem for source in chosen}:
        parser.error(f"no source of that name in {HERE.name}/: {', '.join(sorted(missing))}")
    if options.check:
        stale = [p for s in chosen for p, made in targets(s).items() if not in_step(p, made)]
        for path in stale:
            print(f"{path.relative_to(TUTORIALS)} is not in step with its source: run build.py")
        return 1 if stale else 0
    for source in chosen:
        for path in build(source, options.force):
            print(path.relative_to(TUTORIALS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
