"""``python -m minifbi.doctor``: what this computer has, and whether minifbi can work with it.

:mod:`minifbi.diagnosis` asks; this file prints.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from minifbi.cli import Parser, run_command
from minifbi.diagnosis import MISSING, examine


def describe(report: Mapping[str, Any]) -> str:
    """The report as text, one line per finding."""
    rows: list[tuple[str, str]] = []

    def part(name: str, title: str, lines: Callable[[Any], list[tuple[str, str]]]) -> None:
        found = report[name]
        rows.append((title, ""))
        if isinstance(found, Mapping) and "error" in found:
            rows.append(("  could not be asked", found["error"]))
        else:
            rows.extend((f"  {key}", text) for key, text in lines(found))

    part("versions", "Versions", lambda found: list(found.items()))
    part("platform", "Computer", _describe_computer)
    part(
        "backends",
        "Backends",
        lambda found: [*found.items(), ("auto takes", _text(report["auto"]))],
    )
    part(
        "blas",
        "NumPy's matrix product",
        lambda found: [
            ("library", f"{found['name']} {found['version']}"),
            ("threads", _text(found["threads"], "unknown (threadpoolctl is not installed)")),
        ],
    )
    part(
        "threads",
        "Variables for threads",
        lambda found: [(name, _text(value, "not set")) for name, value in found.items()],
    )
    part("numba", "Numba", _describe_numba)
    part("cuda", "GPU", _describe_cuda)
    part(
        "downloads",
        "Data",
        lambda found: [
            (
                "downloads go to",
                f"{found['folder']}{'' if found['exists'] else ' (not there yet)'}"
                f"{'' if found['writable'] else ' (NOT writable)'}",
            ),
        ],
    )
    found = report["mnist"]
    rows.append(
        (
            "  MNIST",
            ("intact: " if found.get("intact") else "NOT intact: ")
            + str(found.get("detail") or found.get("error")),
        )
    )
    width = max(len(name) for name, text in rows if text) + 2
    lines = []
    for name, text in rows:
        # further lines of a long message are aligned with its first line
        more = textwrap.wrap(text, 100 - width, break_long_words=False, break_on_hyphens=False) or [
            ""
        ]
        lines += [
            f"{left:<{width}}{line}".rstrip()
            for left, line in zip_longest([name], more, fillvalue="")
        ]
    ok = "minifbi can run here."
    lines.append(ok if report["healthy"] else "Something is wrong: a backend or MNIST is missing.")
    return "\n".join(lines)


def _text(value: Any, missing: str = "nothing") -> str:
    if isinstance(value, Mapping):
        return f"could not be asked: {value['error']}"
    return missing if value is None else str(value)


def _describe_computer(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    simd = found["simd"]
    return [
        ("system", found["system"]),
        ("processor", found["cpu"]),
        ("cores", f"{found['cores']}, of which this process may use {found['usable_cores']}"),
        ("vector instructions", " ".join(simd) if isinstance(simd, list) else "unknown"),
    ]


def _describe_numba(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if found is None:
        return [("", MISSING)]
    note = (
        "writable"
        if found["cache_writable"]
        else "NOT writable: Numba uses the user's cache folder, or compiles again in each process"
    )
    return [
        ("threads", str(found["threads"])),
        ("threading layer", found["threading_layer"]),
        ("compiled kernels", f"{found['cache']} ({found['cache_from']}; {note})"),
    ]


def _describe_cuda(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if found is None:
        return [("", "none that the cupy backend can use; the reason is under Backends")]
    return [
        *(
            (
                f"device {number}",
                f"{device['name']}, compute capability {device['compute_capability']}, "
                f"{device['memory_mb']:,} MiB",
            )
            for number, device in enumerate(found["devices"])
        ),
        ("CUDA", f"{found['runtime']}; the driver knows up to {found['driver']}"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the command line if left out.

    Returns
    -------
    int
        0 if at least one backend works and MNIST is intact, else 1.
    """
    parser = Parser(
        prog="python -m minifbi.doctor",
        description="Report versions, backends, threads and data; exit with 0 if minifbi can run.",
    )
    parser.add_argument("--json", action="store_true", help="print the report as a JSON object")
    arguments = parser.parse_args(argv)

    def command() -> int:
        report = examine()
        print(json.dumps(report, indent=2) if arguments.json else describe(report))
        return 0 if report["healthy"] else 1

    return run_command(command, "minifbi.doctor")


if __name__ == "__main__":
    sys.exit(main())
