"""What the commands ``python -m minifbi.X`` share: one clear line for each error."""

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

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message} (see --help)", file=sys.stderr)
        sys.exit(2)


def run_command(main: Callable[[], int], prog: str) -> int:
    """Run a command; turn what it raises on purpose into one line and an exit code.

    2 for wrong arguments, 1 for anything else that went wrong, 130 after Ctrl-C.
    Bugs keep their traceback.
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
        print(f"{prog}: error: {error} (see --help)", file=sys.stderr)
        return 2
    except MinifbiError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # whoever read our output has gone (| head): not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"{prog}: error: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except MemoryError:
        print(f"{prog}: error: out of memory; try a smaller --batch-size", file=sys.stderr)
        return 1


def _mend_streams() -> None:
    """Let printing never be what stops a command.

    A stream that was closed (``>&-``) is opened on the null device: else the next file that
    is opened would get its number, and with it whatever a library prints.  A letter that the
    terminal's encoding lacks is printed as an escape.
    """
    for name in ("stdin", "stdout", "stderr"):  # descriptors 0, 1 and 2, the lowest free first
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
