"""docs/house.md is true: who imports whom, in which order, and no circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "house.md"
if not PAGE.exists():
    pytest.skip("installed without docs", allow_module_level=True)
SHARED = {
    "minifbi.errors",
    "minifbi.arguments",
    "minifbi.text",
    "minifbi.switch",
}  # the page leaves them out


def sources() -> dict[str, str]:
    """The text of each module of the package, by its name."""
    found = {}
    for path in sorted((ROOT / "minifbi").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


def imports(modules: Mapping[str, str]) -> dict[str, set[str]]:
    """Which modules each one imports, wherever the import stands in it."""
    graph: dict[str, set[str]] = {}
    for name, text in modules.items():
        named: set[str] = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{name} has a relative import, line {node.lineno}"
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    named.add(inner if inner in modules else str(node.module))
        graph[name] = (named & modules.keys()) - {name}
    return graph


def rows() -> list[tuple[list[str], set[str]]]:
    """Each row of the page's table: its rooms, and from where they import."""
    section = PAGE.read_text(encoding="utf-8").split("\n## The rooms\n")[1].split("\n## ")[0]
    found = []
    for line in section.splitlines():
        if line.startswith("| `"):
            rooms, _, imported = line.strip().strip("|").split("|")
            names = re.findall(r"`([\w.]+)`", imported)
            whole = {name if name == "minifbi" else f"minifbi.{name}" for name in names}
            found.append((re.findall(r"`([\w.]+)`", rooms), whole))
    return found


def room_of(module: str, rooms: Iterable[str]) -> str:
    """The room in which a module stands: the longest name that it begins with."""
    fitting = [
        room  # `minifbi` itself is a room too, and not the one of all modules
        for room in rooms
        if module == room or ("." in room and module.startswith(f"{room}."))
    ]
    assert fitting, f"{module} stands in no room of docs/house.md"
    return max(fitting, key=len)


def upward(graph: Mapping[str, set[str]], floors: list[list[str]]) -> list[str]:
    """Imports from a room of the same or a later row, in words."""
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    found = []
    for module, imported in graph.items():
        own = room_of(module, floor)
        for other in sorted(imported):
            room = room_of(other, floor)
            if room != own and floor[room] >= floor[own]:
                found.append(f"{module} imports {other}")
    return found


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """A circle of imports; an empty list if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


GRAPH = imports(sources())
ROWS = rows()
FLOORS = [rooms for rooms, _ in ROWS]


def test_every_room_is_listed_once_and_exists():
    listed = [room for rooms in FLOORS for room in rooms]
    assert len(set(listed)) == len(listed) > 20
    assert set(listed) <= GRAPH.keys()


def test_no_circle():
    assert circle(GRAPH) == []


def test_no_room_imports_from_one_above_it():
    assert upward(GRAPH, FLOORS) == []


@pytest.mark.parametrize(("rooms", "said"), ROWS, ids=lambda part: "-".join(sorted(part))[:40])
def test_the_page_says_what_a_room_imports(rooms, said):
    listed = [room for floor in FLOORS for room in floor]
    found = {
        room_of(other, listed)
        for module, imported in GRAPH.items()
        if room_of(module, listed) in rooms
        for other in imported
    }
    assert said == found - SHARED - set(rooms), "the last column of docs/house.md"


def test_what_is_wrong_is_noticed():
    modules = {
        "p": "",
        "p.low": "",
        "p.low.a": "def f():\n    from p.low import b\n",
        "p.low.b": "if TYPE_CHECKING:\n    import p.low.a\n",
        "p.high": "from p.low.a import f\nfrom p import low\n",
    }
    graph = imports(modules)
    assert graph["p.high"] == {"p.low.a", "p.low"}
    assert set(circle(graph)) == {"p.low.a", "p.low.b"}
    assert circle({"p.high": {"p.low"}, "p.low": set()}) == []
    assert upward(graph, [["p"], ["p.low"], ["p.high"]]) == []
    assert upward(graph, [["p"], ["p.high"], ["p.low"]]) == [
        "p.high imports p.low",
        "p.high imports p.low.a",
    ]
    assert upward(graph, [["p"], ["p.high", "p.low"]]) != []
    with pytest.raises(AssertionError, match=r"p\.other stands in no room"):
        upward({"p.other": set()}, [["p.low"]])
    with pytest.raises(AssertionError, match="relative"):
        imports({"p.low": "from . import a"})
