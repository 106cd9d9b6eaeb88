"""The documentation is true: what it names exists, what it links is there, what it shows runs."""

from __future__ import annotations

import ast
import csv
import doctest
import importlib
import inspect
import json
import re
from pathlib import Path

import matplotlib
import pytest

import minifbi
from minifbi.explain import EXPLAINERS
from minifbi.regularizers import REGULARIZERS
from minifbi.rules import RULES

places = pytest.importorskip("places", reason="installed without docs")

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = sorted([*DOCS.glob("*.md"), *TOP])
EQUATIONS = (DOCS / "equations.md").read_text(encoding="utf-8")
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for path in (ROOT / "minifbi").rglob("*.py")
)


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


# ---- docs/equations.md -------------------------------------------------------------------
def equation_rows() -> list[tuple[str, list[str]]]:
    """The table rows of the page that name code, with the title of their section."""
    found, section = [], ""
    for line in EQUATIONS.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        if line.startswith("|") and "`minifbi." in line:
            found.append((section, [cell.strip() for cell in line.strip("|").split(" | ")]))
    return found


def names(pattern: str) -> list[str]:
    """All code spans of the page that match."""
    return sorted(set(re.findall(f"`({pattern})`", EQUATIONS)))


def test_every_row_names_code_a_test_and_a_cell():
    rows = equation_rows()
    assert len(rows) > 60
    for _, row in rows:
        assert 3 <= len(row) <= 4, row
        assert re.search(r"`minifbi\.[\w.]+`", row[-3]), row
        assert re.fullmatch(r"`tests/[\w/]+\.py::[\w:]+`", row[-2]), row
        assert re.fullmatch(r"`[a-z0-9-]+`", row[-1]), row


@pytest.mark.parametrize("name", names(r"minifbi\.[\w.]+"))
def test_function_exists(name):
    path, line = places.locate(name)
    assert name.split(".")[-1] in (ROOT / path).read_text(encoding="utf-8").splitlines()[line - 1]
    assert find(name) is not None


@pytest.mark.parametrize("node", names(r"tests/[\w/]+\.py::[\w:]+"))
def test_test_exists(node):
    path, line = places.locate_test(node)
    name = node.split("::")[-1]
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8").splitlines()[line - 1]


def test_tutorial_cells_exist():
    cited = {row[-1].strip("`") for _, row in equation_rows()}
    for tag in cited:
        assert places.locate_cell(tag)
    assert {f"eq-{n}" for n in range(1, 6)} <= cited


@pytest.mark.parametrize(
    ("look", "name"),
    [
        (places.locate, "minifbi.fbi.fbi_lost"),
        (places.locate, "minifbi.layers.Conv2d.relevances"),
        (places.locate, "minifbi.training.TrainConfig.weight_of_fbi"),
        (places.locate, "somewhere.else"),
        (places.locate_test, "tests/fbi/test_fbi.py::test_that_is_gone"),
        (places.locate_test, "tests/fbi/test_gone.py::test_closed_form"),
        (places.locate_test, "tests/fbi/test_fbi.py::divided_form"),  # a helper, no test
        (places.locate_test, "tests/training/test_training.py::TestGate::test_closed_form"),
        (places.locate_cell, "eq-6"),
        (places.locate_cell, "exercise"),  # on many cells, so it leads to none
    ],
)
def test_what_is_gone_is_noticed(look, name):
    with pytest.raises(LookupError, match=name.split(".")[-1].split("::")[-1]):
        look(name)


@pytest.mark.parametrize(
    ("name", "path", "line"),
    [
        ("minifbi.layers.Conv2d.relevance", "minifbi/layers/conv.py", "def relevance("),
        ("minifbi.Tensor.exp", "minifbi/autograd/functions.py", "def exp("),  # attached
        (
            "minifbi.layers.Layer.zero_grad",
            "minifbi/layers/state.py",
            "def zero_grad(",
        ),  # inherited
        ("minifbi.rules.RULES", "minifbi/rules/composite.py", "RULES: "),  # handed on
        ("minifbi.rules.Composite.exact", "minifbi/rules/composite.py", "def exact("),
        ("minifbi.training.TrainConfig.fbi_gate", "minifbi/training/config.py", "fbi_gate: "),
        ("minifbi.no_grad", "minifbi/autograd/recording.py", "def no_grad("),  # decorated
    ],
)
def test_names_are_found_where_they_are_defined(name, path, line):
    found, number = places.locate(name)
    assert found == path
    assert line in (ROOT / path).read_text(encoding="utf-8").splitlines()[number - 1]


def test_all_five_equations_are_listed():
    sections = re.split(r"^## ", EQUATIONS, flags=re.MULTILINE)
    for n in range(1, 6):
        (section,) = [text for text in sections if text.startswith(f"Eq. ({n}):")]
        assert rf"\tag{{{n}}}" in section
        assert f"`eq-{n}`" in section
        assert "`minifbi." in section


def test_functions_of_an_equation_cite_it():
    """Who stands in the section of Eq. (2) says Eq. (2) in its docstring, or its class does."""
    for section, row in equation_rows():
        if number := re.match(r"Eq\. \((\d)\)", section):
            name = re.findall(r"`(minifbi\.[\w.]+)`", row[0])[0]
            texts = [inspect.getdoc(find(name)) or ""]
            if inspect.isclass(owner := find(name.rpartition(".")[0])):
                texts.append(inspect.getdoc(owner) or "")
            cited = {n for text in texts for n in equations_in(text)}
            # Eq. (5) is minimised by the scheme of Section 3.2
            section_too = number[1] == "5" and "Section 3.2" in "".join(texts)
            assert int(number[1]) in cited or section_too, name


# ---- equations cited in the code ---------------------------------------------------------
def equations_in(text: str) -> set[int]:
    """The numbers of all equations that a text cites, as in "Eq. (2), (3)"."""
    cited = re.findall(r"Eq\. ((?:\(\d+\)(?:, | and | to )?)+)", text)
    return {int(n) for numbers in cited for n in re.findall(r"\((\d+)\)", numbers)}


def docstrings(path: Path) -> list[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)]


def test_docstrings_cite_equations_that_the_paper_has():
    cited = set()
    for path in (ROOT / "minifbi").rglob("*.py"):
        for text in docstrings(path):
            found = equations_in(text)
            assert found <= {1, 2, 3, 4, 5}, f"{path}: Eq. {found}"
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


@pytest.mark.parametrize("page", [*PAGES, *DOCS.glob("recipes/*.md")], ids=lambda p: p.name)
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


@pytest.fixture
def own_registries():
    """What a page puts into a registry must not be there for other tests."""
    before = [(registry, dict(registry)) for registry in (REGULARIZERS, RULES, EXPLAINERS)]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


@pytest.mark.usefixtures("own_registries")
@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p)], ids=lambda p: p.name)
def test_python_blocks_run(page, tmp_path, monkeypatch, capsys):
    """One page is one program, from top to bottom; a ```text block right after is its output."""
    monkeypatch.chdir(tmp_path)
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
        source = ROOT.joinpath(*name.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        assert ">>> " not in source, "an example that is never run"
        pytest.skip(f"needs {error.name}")  # a benchmark's peer, for example
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


# ---- numbers that are quoted -------------------------------------------------------------
def test_number_of_networks_in_the_reproduction():
    """Experiments that share a network have all numbers of its training in common."""
    experiments: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    with open(DOCS / "reproduction" / "values.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = tuple(row[k] for k in ("group", "setting", "method", "model", "dataset", "seed"))
            found = experiments.setdefault(key, [])
            if row["kind"] == "training":
                found.append((row["measure"], row["layer"], row["value"]))
    networks = {tuple(sorted(numbers)) for numbers in experiments.values()}
    page = (DOCS / "reproduction.md").read_text(encoding="utf-8")
    said = re.search(r"(\d+) experiments\s+on (\d+) networks", page)
    assert said
    assert (int(said[1]), int(said[2])) == (len(experiments), len(networks))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{len(networks)} networks)" in readme


def test_citation():
    """CITATION.cff, the package and the entry on the page of questions say the same."""
    yaml = pytest.importorskip("yaml")
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cff["version"] == minifbi.__version__
    assert cff["type"] == "software"
    (paper,) = cff["references"]
    entry = re.search(r"```bibtex\n(.*?)```", (DOCS / "faq.md").read_text("utf-8"), re.DOTALL)
    assert entry
    fields = dict(re.findall(r"(\w+)\s*= \{(.*)\}", entry[1]))
    names = [f"{a['family-names']}, {a['given-names']}" for a in paper["authors"]]
    assert fields["author"] == " and ".join(names)
    assert fields["title"] == paper["title"]
    assert fields["booktitle"] == paper["collection-title"]
    assert fields["year"] == str(paper["year"])
    assert fields["pages"] == f"{paper['start']}--{paper['end']}"


# ---- pictures and checks of the site -----------------------------------------------------
def test_pictures_of_the_engine_are_up_to_date():
    """They are drawn from a tape: if they differ, run `python docs/drawings.py` and look."""
    drawings = importlib.import_module("drawings")
    entries, arrows = drawings.tape()
    assert len(entries) == 11
    assert ("W1", "first.Dense") in arrows
    assert ("W1", "first.Dense.relevance") in arrows  # the same weights in both passes
    for name, draw in (("tape", drawings.draw_tape), ("trio", drawings.draw_trio)):
        assert (DOCS / "images" / f"{name}.svg").read_text(encoding="utf-8") == draw()


def test_the_check_of_the_site_finds_what_is_wrong(tmp_path):
    check_site = importlib.import_module("check_site")
    terms = {"relev": 0, "gradient": [0]}  # a page's number, or several
    titles = {"convolut": 1, "checkpoint": 0}
    search = f"Search.setIndex({json.dumps({'terms': terms, 'titleterms': titles})})"
    (tmp_path / "searchindex.js").write_text(search, encoding="utf-8")
    (tmp_path / "a.html").write_text('<p id="top"><a href="index.html#here">b</a></p>', "utf-8")
    good = '<p id="here"><a href="a.html?q=1#top">a</a><a href="#here">c</a><a href="//w/x">w</a>'
    (tmp_path / "index.html").write_text(good, encoding="utf-8")
    assert check_site.problems(tmp_path) == ([], 3)
    (tmp_path / "index.html").write_text(
        f'{good.replace("here", "moved")}<img src="x.png">', "utf-8"
    )
    (tmp_path / "searchindex.js").write_text(search.replace("relev", "other"), encoding="utf-8")
    assert sorted(check_site.problems(tmp_path)[0]) == [
        "a.html: no anchor for index.html#here",
        "index.html: no file for x.png",
        "the search does not find 'relevance'",
    ]
