"""What the commands ``python -m minifbi.X`` share: one clear line for each error."""

from __future__ import annotations

import argparse
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
    try:
        with clear_device_errors():
            code = main()
        sys.stdout.flush()
        return code
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
