"""What the commands ``python -m minifbi.X`` share: their parser, and one line per error."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from minifbi.backends.cupy_device import clear_device_errors
from minifbi.errors import ConfigError, MinifbiError


class Parser(argparse.ArgumentParser):
    """argparse that reports a wrong argument in one line and exits with 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False, **options
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, but refuse NUL characters, which no file name can hold."""
        given = sys.argv[1:] if args is None else list(args)
        if any("\0" in argument for argument in given):
            self.error("an argument holds a NUL character")
        for argument in given:
            flag, sign, value = argument.partition("=")
            if flag.startswith("--") and sign and value == "--":  # argparse makes [] of it
                self.error(f"argument {flag}: expected a value, got '--'")
        return super().parse_known_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        complain(self.prog, f"{message} (see --help)")
        sys.exit(2)


LONGEST = 2_000  # characters of a message


def printable(text: str) -> str:
    """The text, shortened, with control characters escaped.

    Messages may quote names from files of others, which can be very long or hold characters that
    move the cursor.
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def complain(prog: str, message: object) -> None:
    """One line on standard error."""
    print(f"{prog}: error: {printable(str(message))}", file=sys.stderr)


def run_command(main: Callable[[], int], prog: str) -> int:
    """Run a command; turn errors that it raises on purpose into one line and an exit code.

    The code is 2 for wrong arguments, 130 after Ctrl-C, and 1 for other errors.  Bugs keep their
    traceback.
    """
    _mend_streams()
    try:
        with clear_device_errors():
            code = main()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"\n{prog}: interrupted", file=sys.stderr)
        return 130
    except ConfigError as error:
        complain(prog, f"{error} (see --help)")
        return 2
    except MinifbiError as error:
        complain(prog, error)
        return 1
    except BrokenPipeError:
        # the program that read our output has ended (| head): not our error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        complain(prog, f"{error.strerror or error}{where}")
        return 1
    except MemoryError:
        complain(prog, "out of memory; try a smaller --batch-size")
        return 1


def _mend_streams() -> None:
    """Make sure that printing cannot stop a command.

    A stream that was closed (``>&-``) is opened on the null device: otherwise the next opened
    file would get its number and receive what libraries print.  A letter that the terminal's
    encoding lacks is printed as an escape.
    """
    for name in ("stdin", "stdout", "stderr"):  # descriptors 0, 1 and 2, the lowest free first
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
