"""The documentation is true: what it names exists, what it links is there, what it shows runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import pkgutil
import re
from pathlib import Path

import matplotlib
import pytest

import minifbi
from minifbi.regularizers import REGULARIZERS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md"])
EQUATIONS = (DOCS / "equations.md").read_text(encoding="utf-8")
# the Numba kernels are compiled functions; their text is for their reader and no example
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(minifbi.__path__, "minifbi.")
    if ".numba_kernels" not in module.name and not module.name.endswith("__main__")
)

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="installed without docs")


# ---- docs/equations.md -------------------------------------------------------------------
def equation_rows() -> list[list[str]]:
    """The cells of all table rows of the page that name code."""
    rows = [line.strip().strip("|").split(" | ") for line in EQUATIONS.splitlines()]
    return [row for row in rows if "`minifbi." in "".join(row)]


def find(dotted: str) -> object:
    """Import what a dotted name means."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if part in getattr(found, "__dataclass_fields__", {}):
                return found.__dataclass_fields__[part]
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(dotted)


def names(pattern: str) -> list[str]:
    """All code spans of the page that match."""
    return sorted(set(re.findall(f"`({pattern})`", EQUATIONS)))


def test_every_row_names_code_a_test_and_a_cell():
    rows = equation_rows()
    assert len(rows) > 20
    for row in rows:
        assert "`tests/" in row[-2], row
        assert re.fullmatch(r"\s*`[a-z0-9-]+`\s*", row[-1]), row


@pytest.mark.parametrize("name", names(r"minifbi\.[\w.]+"))
def test_function_exists(name):
    assert find(name) is not None


@pytest.mark.parametrize("node", names(r"tests/[\w/]+\.py::[\w:]+"))
def test_test_exists(node):
    path, *path_inside = node.split("::")
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    for name in path_inside:
        matches = [item for item in body if getattr(item, "name", None) == name]
        assert matches, f"{path} has no {name}"
        body = getattr(matches[0], "body", [])
    assert path_inside[-1].startswith("test_")


def test_tutorial_cells_exist():
    tags = set()
    for path in (ROOT / "tutorials").glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            tags.update(cell["metadata"].get("tags", []))
    cited = {row[-1].strip().strip("`") for row in equation_rows()}
    assert cited <= tags
    assert {f"eq-{n}" for n in range(1, 6)} <= cited


def test_all_five_equations_are_listed():
    sections = re.split(r"^## ", EQUATIONS, flags=re.MULTILINE)
    for n in range(1, 6):
        (section,) = [text for text in sections if text.startswith(f"Eq. ({n}):")]
        assert rf"\tag{{{n}}}" in section
        assert f"`eq-{n}`" in section
        assert "`minifbi." in section


# ---- equations cited in the code ---------------------------------------------------------
def docstrings(path: Path) -> list[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)]


def test_docstrings_cite_equations_that_the_paper_has():
    cited = set()
    for path in (ROOT / "minifbi").rglob("*.py"):
        for text in docstrings(path):
            for numbers in re.findall(r"Eq\. ((?:\(\d+\)(?:, | and | to )?)+)", text):
                found = {int(n) for n in re.findall(r"\((\d+)\)", numbers)}
                assert found <= {1, 2, 3, 4, 5}, f"{path}: Eq. {numbers}"
                cited |= found
    assert cited >= {1, 2, 3, 4}


# ---- links -------------------------------------------------------------------------------
def anchors(path: Path) -> set[str]:
    """What a link may name after the # of a page: its headings, as GitHub and MyST spell them."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    explicit = re.findall(r"^\(([\w-]+)\)=$", text, flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
    return slugs | set(explicit)


def links(path: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_resolve(page):
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue  # the web: not ours to check
        target, _, anchor = link.partition("#")
        if not target and anchor.startswith("minifbi"):
            assert find(anchor) is not None, link  # a link into the reference
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name} links to {link}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name} links to {link}"


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"```\{toctree\}.*?\n\n(.*?)```", index, flags=re.DOTALL)
    entries = "\n".join(listed).split()
    pages = {page.stem for page in DOCS.glob("*.md")} - {"index"} | {"reproduction/report"}
    tutorials = {f"tutorials/{path.stem}" for path in (ROOT / "tutorials").glob("*.ipynb")}
    assert set(entries) == pages | tutorials


# ---- code that is shown runs -------------------------------------------------------------
def python_blocks(page: Path) -> list[tuple[int, str]]:
    text = page.read_text(encoding="utf-8")
    return [
        (text[: match.start(1)].count("\n") + 1, match[1])
        for match in re.finditer(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    ]


@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p)], ids=lambda p: p.name)
def test_python_blocks_run(page, tmp_path, monkeypatch, capsys):
    """One page is one program, from top to bottom; a ```text block right after is its output."""
    monkeypatch.chdir(tmp_path)
    # what a page puts into the registry must not be there for other tests
    monkeypatch.setattr("minifbi.regularizers.REGULARIZERS", dict(REGULARIZERS))
    namespace: dict[str, object] = {"__name__": "__main__"}
    text = page.read_text(encoding="utf-8")
    for line, block in python_blocks(page):
        code = compile("\n" * (line - 1) + block, str(page), "exec")
        capsys.readouterr()
        exec(code, namespace)
        shown = re.match(
            r"```\n\n```text\n(.*?)^```", text[text.index(block) + len(block) :], re.S | re.M
        )
        if shown:
            assert capsys.readouterr().out == shown[1]


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("minifbi"):
            raise
        pytest.skip(f"needs {error.name}")  # a benchmark's peer, for example
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
