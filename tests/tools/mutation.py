"""Mutation run: how many planted faults does the suite notice?

    pip install cosmic-ray
    python tests/tools/mutation.py --out FOLDER minifbi/autograd minifbi/layers minifbi/fbi.py

Each fault is planted in a fork of this process, which has imported NumPy and pytest and nothing
of minifbi: no file is changed, and a fault costs a second or two.  The tests of TESTS run in
order, those that concern the file first, and stop at the first failure; MINIFBI_TEST_BACKENDS says
on which backends, numpy if it says nothing.  A fault that no test notices *survives*.
FOLDER/results.jsonl has one line a fault, in a random order: a run that was stopped has a random
sample, and goes on from there.  ``--survivors`` runs those again, with new tests, other tests
(``--tests``) or on other backends, and ``--show`` prints them as differences.
"""

from __future__ import annotations

import argparse
import collections
import difflib
import importlib.abc
import importlib.machinery
import json
import os
import random
import resource
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("MINIFBI_TEST_BACKENDS", "numpy")
sys.dont_write_bytecode = False
sys.path[:0] = [str(Path(__file__).parent)]

import hypothesis  # noqa: E402  # these here, so that each fork has them already
import mutants  # noqa: E402
import numpy as np  # noqa: E402, F401
import pytest  # noqa: E402

# Tests that are quick, and together look at all of autograd, layers and fbi.
TESTS = (
    "test_gradcheck test_autograd test_autograd_tape test_layers_gates test_layers_conv "
    "test_layers_pooling test_layers test_residual test_fused test_relevance_tensor test_fbi "
    "test_oracles test_small_print test_planted_faults test_fbi_gradients test_check_numerics "
    "test_numerics"
).split()
# and which to run first for a file
FIRST = {
    "autograd/functions": ["test_autograd"],
    "autograd/operators": ["test_autograd"],
    "autograd/tensor": ["test_autograd_tape"],
    "autograd/recording": ["test_autograd_tape"],
    "autograd/classification": ["test_autograd"],
    "layers/base": ["test_layers"],
    "layers/conv": ["test_layers_conv"],
    "layers/dense": ["test_layers_conv"],
    "layers/dropout": ["test_layers_gates"],
    "layers/flatten": ["test_layers_gates"],
    "layers/relu": ["test_layers_gates"],
    "layers/pooling": ["test_layers_pooling"],
    "fusion": ["test_fused"],
    "layers/sequential": ["test_layers"],
    "layers/linear": ["test_layers_conv"],
    "layers/state": ["test_layers"],
    "layers/tape": ["test_layers"],
    "layers/window": ["test_layers_conv"],
    "numerics": ["test_check_numerics"],
    "fbi": ["test_fbi"],
}
CPU_SECONDS = 90  # the longest that one fault may take; what takes longer hangs, and is noticed


def tests_for(path: str, root: Path, asked: list[str]) -> list[str]:
    """Test files, the likeliest to notice a fault in `path` first; or those that were `asked`."""
    key = path.removeprefix("minifbi/").removesuffix(".py")
    order = FIRST.get(key, [])
    order = [*order, "test_small_print"]
    names = asked or [*order, *(name for name in TESTS if name not in order)]
    files = {file.stem: str(file) for file in (root / "tests").rglob("test_*.py")}
    return [files[name] for name in names if name in files]


class Planter(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from the text given instead of its file."""

    def __init__(self, name: str, path: str, text: str) -> None:
        self.name, self.path, self.text = name, path, text

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        package = [str(Path(self.path).parent)] if self.path.endswith("__init__.py") else None
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=self.path)
        spec.has_location = True
        spec.submodule_search_locations = package
        return spec

    def exec_module(self, module: Any) -> None:
        exec(compile(self.text, self.path, "exec"), module.__dict__)


def module_name(path: str) -> str:
    """minifbi.layers for minifbi/layers/__init__.py."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def noticed(mutant: mutants.Mutant | None, tests: list[str], log: Path) -> tuple[str, float]:
    """Run the tests on a fault: "killed", "survived" or "hung", and the seconds of CPU."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(output, 1), os.dup2(output, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
            resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
            if mutant is not None:
                name = module_name(mutant.path)
                sys.meta_path.insert(0, Planter(name, mutant.path, mutant.source()))
            # a fault that was found need not be made small
            quick = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
            hypothesis.settings.register_profile("mutation", phases=quick, database=None)
            hypothesis.settings.load_profile("mutation")
            # in processes of their own nothing is planted
            options = ["-k", "not too_large"]
            options += ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "--tb=line"]
            code = int(pytest.main([*options, "--hypothesis-seed=0", *tests]))
        finally:
            sys.stdout.flush()
            os._exit(code)
    begin = time.monotonic()
    while True:
        found, status, used = os.wait4(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() - begin > 20 * CPU_SECONDS:  # asleep for ever
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)
    seconds = used.ru_utime + used.ru_stime
    if os.WIFSIGNALED(status):
        return "hung", seconds
    return ("survived" if os.WEXITSTATUS(status) == 0 else "killed"), seconds


def files_of(names: list[str]) -> list[Path]:
    """The Python files in folders, or the files themselves."""
    paths = [Path(name) for name in names]
    return [f for p in paths for f in (sorted(p.rglob("*.py")) if p.is_dir() else [p])]


def difference(mutant: mutants.Mutant) -> str:
    """The planted fault as one reads it."""
    before = Path(mutant.path).read_text(encoding="utf-8").splitlines()
    lines = difflib.unified_diff(before, mutant.source().splitlines(), lineterm="", n=1)
    return "\n".join(list(lines)[3:])


def read_results(file: Path) -> dict[mutants.Mutant, str]:
    """What is known; the last line about a fault counts."""
    results = {}
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            del entry["seconds"]
            result = entry.pop("result")
            results[mutants.Mutant(**entry)] = result
    return results


def table(results: dict[mutants.Mutant, str]) -> str:
    """Totals, file by file."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for mutant, result in results.items():
        counts[mutant.path][result] += 1
        counts["all"][result] += 1
    lines = ["file | planted | noticed | survived | share", "---|---|---|---|---"]
    for path in sorted(counts, key=lambda p: (p == "all", p)):
        count = counts[path]
        total, survived = count.total(), count["survived"]
        share = 100 * (total - survived) / total
        lines.append(f"{path} | {total} | {total - survived} | {survived} | {share:.1f} %")
    return "\n".join(lines)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", help="files and folders of the package")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.jsonl")
    parser.add_argument("--sample", type=int, default=0, help="faults a file at most; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and the order")
    parser.add_argument("--survivors", action="store_true", help="run the survivors again")
    parser.add_argument("--tests", nargs="*", default=[], help="these instead, such as test_rules")
    parser.add_argument("--show", action="store_true", help="print the survivors and stop")
    options = parser.parse_args()

    root = Path(__file__).resolve().parents[2]
    os.chdir(root)
    sys.path.insert(0, str(root))
    options.out.mkdir(parents=True, exist_ok=True)
    file, log = (options.out / "results.jsonl").resolve(), (options.out / "tests.log").resolve()
    known = read_results(file)
    if options.show:
        for mutant, result in sorted(known.items(), key=lambda e: (e[0].path, e[0].line)):
            if result == "survived":
                print(f"\n{mutant.path}:{mutant.line} {mutant.where}  {mutant.operator}")
                print(difference(mutant))
        print("\n" + table(known))
        return 0
    if options.survivors:
        paths = {str(path) for path in files_of(options.files)}
        chosen = [mutant for mutant, result in known.items() if result == "survived"]
        chosen = [mutant for mutant in chosen if not paths or mutant.path in paths]
    else:
        chosen, skipped, found = [], 0, 0
        for path in files_of(options.files):
            usable, left_out = mutants.find(path)
            skipped, found = skipped + left_out, found + len(usable)
            order = random.Random(f"{options.seed} {path}")
            if 0 < options.sample < len(usable):
                usable = order.sample(usable, options.sample)
            chosen += usable
        print(f"{found} faults, {skipped} left out by rule, {len(chosen)} chosen", flush=True)
        random.Random(options.seed).shuffle(chosen)
        chosen = [mutant for mutant in chosen if mutant not in known]
    if chosen:  # nothing planted, so nothing may fail; the same tests for every file
        result, seconds = noticed(None, tests_for(chosen[0].path, root, options.tests), log)
        if result != "survived":
            print(f"the tests fail without a fault: see {log}", file=sys.stderr)
            return 1
        print(f"{seconds:.1f} s of tests", flush=True)
    with file.open("a", encoding="utf-8") as lines:
        for done, mutant in enumerate(chosen, 1):
            result, seconds = noticed(mutant, tests_for(mutant.path, root, options.tests), log)
            entry = {**asdict(mutant), "result": result, "seconds": round(seconds, 1)}
            print(json.dumps(entry), file=lines, flush=True)
            if done % 50 == 0 or done == len(chosen):
                print(f"{done} of {len(chosen)}", flush=True)
    print(table(read_results(file)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
