"""What grade.py does with a folder of notebooks: find out whose they are, run them, mark them.

Each notebook runs in a process of its own (grade_worker.py), in an empty folder, with a time limit
for each cell and for the whole.

.. warning:: This executes the code that students wrote, with your rights: it is NOT a sandbox.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

HERE = Path(__file__).resolve().parent
TUTORIALS = HERE.parent
WORKER = HERE / "grade_worker.py"
IMPORT = re.compile(r"^\s*from\s+checks\s+import\s+(tutorial_\w+)", re.MULTILINE)
LARGEST = 50 * 2**20  # bytes of a notebook
NOT_REACHED = "not reached"  # how the message of an exercise begins that was not graded
IGNORED = {".ipynb_checkpoints", "__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini"}
# How learning platforms name what they hand out: the student, a number, and the student's own name
# for the file.  Moodle: "Anna Mai_123_assignsubmission_file_04.ipynb", or a folder without the
# last part; Canvas: "maianna_LATE_123_456_04.ipynb".
PLATFORMS = (
    re.compile(
        r"(?P<student>.+?)_(?P<identifier>\d+)_(assignsubmission_)?(file|onlinetext)_?(?P<own>.*)"
    ),
    re.compile(r"(?P<student>[^_]+)_(LATE_)?(?P<identifier>\d+)_\d+_(?P<own>.+)"),
)


@dataclass(frozen=True)
class Exercise:
    """An exercise: the name of its check, and the call in our notebook."""

    name: str
    call: str


@dataclass(frozen=True)
class Tutorial:
    """What is to be graded in a tutorial."""

    stem: str
    module: str
    exercises: tuple[Exercise, ...]


@dataclass(frozen=True)
class Mark:
    """What the check of an exercise said."""

    exercise: str
    passed: bool
    message: str


@dataclass
class Submission:
    """A file that a student handed in: a notebook, or what should have been one.

    Attributes
    ----------
    student : str
        The name, from that of the folder or the file.
    path : Path
    tutorial : Tutorial or None
        None where it is not one of ours.
    cells : list of str
        Its code.
    problem : str
        What is wrong with the notebook as a whole; empty if nothing is.
    marks : list of Mark
        One for each exercise of the tutorial, once it has been graded.
    stopped : dict of int to str
        Code cells (from 1) that ended with an error, and the error.
    seconds : float
        How long the notebook ran.
    identifier : str
        The student's number on the learning platform; empty if the names do not say it.
    """

    student: str
    path: Path
    tutorial: Tutorial | None = None
    cells: list[str] = field(default_factory=list)
    problem: str = ""
    marks: list[Mark] = field(default_factory=list)
    stopped: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    identifier: str = ""

    @property
    def points(self) -> int:
        """Exercises passed."""
        return sum(mark.passed for mark in self.marks)


@dataclass(frozen=True)
class Limits:
    """Seconds for a whole notebook and for one cell; GiB of memory."""

    notebook: float = 600.0
    cell: float = 120.0
    memory: float = 8.0


LIMITS = Limits()
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


# ---- what there is to grade --------------------------------------------------------------
def code_of(path: Path) -> list[str]:
    """The code cells of a notebook.

    Raises
    ------
    ValueError
        If the file is no notebook; the message says why.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"larger than {LARGEST // 2**20} MiB: clear its outputs")
    try:
        notebook = nbformat.reads(path.read_text("utf-8"), as_version=4)
        return [str(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    except Exception as error:  # nbformat raises many kinds, all of them mean the same here
        reason = " ".join(str(error).split())
        raise ValueError(f"not a notebook ({type(error).__name__}: {reason:.80})") from None


def exercises_in(cells: Sequence[str]) -> Iterator[Exercise]:
    """The calls ``check.NAME(...)`` that end a cell."""
    for source in cells:
        if "check." not in source:
            continue
        for node in ast.parse(source).body:
            match node:
                case ast.Expr(
                    value=ast.Call(func=ast.Attribute(value=ast.Name(id="check"), attr=name))
                ):
                    yield Exercise(name, ast.unparse(node.value))


def tutorials_in(folder: Path = TUTORIALS) -> dict[str, Tutorial]:
    """Our tutorials that have exercises, by the module of their checks."""
    found = {}
    for path in sorted(folder.glob("*.ipynb")):
        cells = code_of(path)
        modules = IMPORT.findall("\n".join(cells))
        exercises = tuple(exercises_in(cells))
        if modules and exercises:
            found[modules[0]] = Tutorial(path.stem, modules[0], exercises)
    return found


def belongs_to(path: Path, cells: Sequence[str], ours: dict[str, Tutorial]) -> Tutorial | None:
    """The tutorial of a student's notebook: by its imports, else by its name."""
    for module in IMPORT.findall("\n".join(cells)):
        if module in ours:
            return ours[module]
    return next((t for t in ours.values() if t.stem in path.stem), None)


def student_of(path: Path, folder: Path, stems: Sequence[str]) -> tuple[str, str]:
    """Who wrote it, and the platform's number: by the folder below `folder`, else by the name."""
    inside = path.relative_to(folder).parts
    alone = len(inside) == 1 and not path.is_dir()
    name = path.stem if alone else inside[0]
    for platform in PLATFORMS:
        if match := platform.fullmatch(name):
            return match["student"].strip(), match["identifier"]
    for stem in stems if alone else ():
        name = name.replace(stem, "")
    return name.strip(" _-.") or path.stem, ""


def collect(folder: Path, ours: dict[str, Tutorial]) -> list[Submission]:
    """Every file below a folder, not run yet, and folders without any.

    What is no notebook is listed with its problem, so that nobody who handed something in is
    missing from the tables.
    """
    found, seen = [], set()
    stems = [tutorial.stem for tutorial in ours.values()]
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or IGNORED & set(parts) or any(p.startswith(".") for p in parts):
            continue
        seen.add(parts[0])
        student, identifier = student_of(path, folder, stems)
        submission = Submission(student, path, identifier=identifier)
        if path.suffix.lower() != ".ipynb":
            submission.problem = f"not a notebook ({path.suffix or 'no ending'}); expected .ipynb"
            found.append(submission)
            continue
        try:
            submission.cells = code_of(path)
        except (ValueError, OSError) as error:
            submission.problem = str(error)
        submission.tutorial = belongs_to(path, submission.cells, ours)
        if submission.tutorial is None and not submission.problem:
            submission.problem = "none of the tutorials: it imports no checks, and has another name"
        found.append(submission)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in seen | IGNORED and not path.name.startswith("."):
            student, identifier = student_of(path, folder, stems)
            problem = "nothing in this folder"
            found.append(Submission(student, path, problem=problem, identifier=identifier))
    return found


# ---- running one -------------------------------------------------------------------------
def grade(
    submission: Submission,
    limits: Limits = LIMITS,
    tutorials: Path = TUTORIALS,
    fast: bool = True,
    threads: int | None = None,
) -> Submission:
    """Run a notebook in a process of its own and fill in its marks.

    Parameters
    ----------
    submission : Submission
    limits : Limits
    tutorials : Path
        The folder with our checks.
    fast : bool
        In the fast mode of the tutorials.
    threads : int, optional
        For the libraries that compute; all cores if left out.
    """
    tutorial = submission.tutorial
    if tutorial is None:
        return submission
    entries: list[dict[str, Any]] = []
    if not submission.problem:
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True) as place:
            report, work = Path(place) / "report.jsonl", Path(place) / "work"
            work.mkdir()
            (work / "tmp").mkdir()
            job = {
                "cells": submission.cells,
                "module": tutorial.module,
                "exercises": [{"name": e.name, "call": e.call} for e in tutorial.exercises],
                "tutorials": str(tutorials.resolve()),
                "report": str(report),
                "cell_seconds": limits.cell,
                "memory": limits.memory,
            }
            how = run_process(json.dumps(job), work, limits.notebook, fast, threads)
            entries = read_report(report)
        submission.seconds = time.perf_counter() - begin
        if not any("finished" in entry for entry in entries):
            cell = max((entry.get("cell", 0) for entry in entries), default=0)
            where = f" in code cell {cell}" if cell else " before the first cell"
            submission.problem = f"{how}{where}"
    said: dict[str, Mark] = {}
    for entry in entries:
        if "stopped" in entry:
            submission.stopped[entry["cell"]] = entry["stopped"]
        if "exercise" in entry:
            said[entry["exercise"]] = Mark(
                entry["exercise"], entry["passed"] is True, str(entry["message"])
            )
    missing = submission.problem or "not graded"
    submission.marks = [
        said.get(e.name, Mark(e.name, False, f"{NOT_REACHED}: {missing}"))
        for e in tutorial.exercises
    ]
    return submission


def run_process(job: str, work: Path, seconds: float, fast: bool, threads: int | None) -> str:
    """Run the worker; return how it ended, for people."""
    environment = dict(os.environ)
    environment |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "IPYTHONDIR": str(work / ".ipython")}
    environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(work / "tmp"))
    environment.pop("MINIFBI_FAST", None)
    if fast:
        environment["MINIFBI_FAST"] = "1"
    if threads is not None:
        environment |= dict.fromkeys(THREADS, str(threads))
    process = subprocess.Popen(
        [sys.executable, str(WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=work,
        env=environment,
        start_new_session=True,  # so that all its children can be ended with it
    )
    try:
        process.communicate(job.encode(), timeout=seconds)
        return f"its process ended (exit code {process.returncode})"
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:g} s"
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # Windows
        process.kill()
    process.wait()


def read_report(path: Path) -> list[dict[str, Any]]:
    """The lines that the worker wrote; a last one that was cut off is left out."""
    entries = []
    if path.exists():
        for line in path.read_text("utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    entries.append(entry)
    return entries


def grade_all(
    submissions: Sequence[Submission],
    limits: Limits = LIMITS,
    tutorials: Path = TUTORIALS,
    fast: bool = True,
    jobs: int = 1,
    tell: Callable[[Submission], None] = lambda submission: None,
) -> None:
    """Grade many, `jobs` at a time, which share the cores, and tell of each when it is done."""
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None

    def one(submission: Submission) -> None:
        tell(grade(submission, limits, tutorials, fast, threads))

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for _ in pool.map(one, submissions):
            pass
