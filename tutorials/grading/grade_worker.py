"""Runs one student's notebook and grades its exercises: the process that grade.py starts.

It reads a job (JSON) from its standard input and appends what it finds to a file, one JSON object
per line, at once: what was graded stays graded if a later cell kills the process.  Cells run in an
IPython shell without a kernel, so that the process is all that there is to end.

An exercise is graded where the student's cell calls its check, with the call of *our* notebook and
with *our* checks, whatever the cell in the student's notebook says, and whatever it has replaced
(guard.py).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from guard import Guard

AGAIN = 2.0  # seconds until the alarm rings again, if somebody caught it


class TimeUp(BaseException):
    """Not an Exception, so that `except Exception` in a student's loop does not hold it up."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp in the block after some seconds, where the system has such an alarm."""
    if not hasattr(signal, "setitimer"):  # Windows: only the limit of the whole notebook holds
        yield
        return

    def ring(*_: Any) -> None:
        raise TimeUp

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory(gib: float) -> None:
    """At most so much address space, where the system knows such a limit."""
    try:
        import resource

        limit = int(gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, OSError, ValueError):
        pass


def quiet() -> None:
    """No input, and what is printed goes nowhere."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    warnings.simplefilter("ignore")


def describe(error: BaseException, seconds: float) -> str:
    """An error in one line."""
    if isinstance(error, TimeUp):
        return f"it ran longer than {seconds:g} s"
    text = " ".join(str(error).split())
    line = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
    return f"{type(error).__name__}: {text:.200}{line}"


def make_shell() -> Any:
    """An IPython shell that needs neither a terminal nor a kernel."""
    from IPython.core.interactiveshell import InteractiveShell

    class Shell(InteractiveShell):
        def enable_gui(self, gui: Any = None) -> None:
            """`%matplotlib inline` has nothing to switch here."""

        def showtraceback(self, *_: Any, **__: Any) -> None:
            """Errors are reported, not printed."""

        showsyntaxerror = showtraceback

    shell = Shell.instance()
    shell.history_manager.enabled = False
    return shell


def run_cell(shell: Any, source: str, seconds: float) -> BaseException | None:
    """Run a cell; return what stopped it."""
    try:
        with time_limit(seconds):
            result = shell.run_cell(source, silent=True, store_history=False)
    except BaseException as error:  # the alarm may ring in the shell itself
        return error
    finally:
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")
    return result.error_before_exec or result.error_in_exec


def grade(call: str, names: dict[str, Any], check: Any, stopped: str, seconds: float) -> Any:
    """(passed, message) of one exercise.

    Parameters
    ----------
    call : str
        Of the check, as in our notebook.
    names : dict
        What the notebook has defined.
    check : module
    stopped : str
        What stopped the exercise's cell, if something did.
    seconds : float
    """
    because = f" Its cell stopped: {stopped}." if stopped else ""
    try:
        with time_limit(seconds):
            verdict = eval(compile(call, "<check>", "eval"), {**names, "check": check})
            return bool(verdict.ok), str(verdict.message)
    except NameError as error:
        return False, f"{error.name or 'a name'} is not defined.{because}"
    except BaseException as error:
        return False, f"the check could not finish: {describe(error, seconds)}.{because}"


def main() -> None:
    job = json.load(sys.stdin)
    limit_memory(job["memory"])
    report = open(job["report"], "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - until the end

    def say(**entry: Any) -> None:
        report.write(json.dumps(entry) + "\n")

    quiet()
    sys.path.insert(0, job["tutorials"])
    check = importlib.import_module(f"checks.{job['module']}")
    shell, seconds = make_shell(), job["cell_seconds"]
    guard = Guard()
    todo = {e["name"]: e["call"] for e in job["exercises"]}
    passed: set[str] = set()
    called: set[str] = set()

    for number, source in enumerate(job["cells"], start=1):
        with guard.restored():
            say(cell=number)
        error = run_cell(shell, source, seconds)
        with guard.restored():
            stopped = "" if error is None else describe(error, seconds)
            if stopped:
                say(cell=number, stopped=stopped)
            for name in [n for n in todo if re.search(rf"\bcheck\s*\.\s*{n}\s*\(", source)]:
                called.add(name)
                if name in passed:
                    continue
                if isinstance(error, TimeUp):
                    ok, message = False, f"its cell {stopped.removeprefix('it ')}."
                else:
                    ok, message = grade(todo[name], shell.user_ns, check, stopped, seconds)
                passed |= {name} if ok else set()
                say(exercise=name, passed=ok, message=message)

    with guard.restored():
        for name in todo:
            if name not in called:  # the student's notebook has lost its check
                ok, message = grade(todo[name], shell.user_ns, check, "", seconds)
                say(exercise=name, passed=ok, message=message)
        say(finished=True)
    report.flush()
    os._exit(0)  # whatever threads are left


if __name__ == "__main__":
    main()
