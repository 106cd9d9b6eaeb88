"""Which faults the mutation run plants: operators, and what is left out by rule.

Cosmic Ray finds and applies them.  To its operators we add those that a gradient calls for:
a term or a factor left out, a transpose forgotten, an input without its gradient, two arguments
the wrong way round, a statement or a check that is not there, one branch always taken.

Left out by rule are places where a change means nothing to a number: docstrings and other
strings, annotations and aliases of types, the arguments of ``raise`` and whatever is computed for
them alone, ``__repr__`` and ``__str__``, ``__slots__`` and ``__all__``, and ``strict=`` of ``zip``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from parso.python.tree import Name, Number

# a / b as a >> b is no slip that anybody makes, and fails at once: it would only raise the score
BINARY = (
    "Add_Sub Sub_Add Mul_Div Div_Mul Mul_Add Add_Mul Pow_Mul Div_FloorDiv FloorDiv_Mul "
    "BitAnd_BitOr BitOr_BitAnd"
).split()
COMPARISONS = (
    "Eq_NotEq NotEq_Eq Lt_LtE LtE_Lt Gt_GtE GtE_Gt Lt_Gt Gt_Lt LtE_GtE GtE_LtE Is_IsNot IsNot_Is"
).split()
NAMES = (
    *(f"core/ReplaceBinaryOperator_{pair}" for pair in BINARY),
    *(f"core/ReplaceComparisonOperator_{pair}" for pair in COMPARISONS),
    *(f"core/ReplaceUnaryOperator_Delete_{sign}" for sign in ("USub", "Invert", "Not")),
    *(f"core/Replace{a}With{b}" for a, b in (("True", "False"), ("False", "True"))),
    *(f"core/Replace{a}With{b}" for a, b in (("And", "Or"), ("Or", "And"))),
    *(f"core/Replace{a}With{b}" for a, b in (("Break", "Continue"), ("Continue", "Break"))),
    *(f"core/{name}" for name in ("AddNot", "NumberReplacer", "RemoveDecorator")),
    *(f"core/{name}" for name in ("ExceptionReplacer", "ZeroIterationForLoop")),
)


def _span(node: Any) -> Any:
    return node.start_pos, node.end_pos


class _Ours(Operator):
    """One kind of fault: `places` lists (span, change) pairs, where `change` gives the new node."""

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()

    def mutation_positions(self, node: Any) -> list[Any]:
        return [span for span, _ in self.places(node)]

    def mutate(self, node: Any, index: int) -> Any:
        return self.places(node)[index][1]()

    def places(self, node: Any) -> list[Any]:
        raise NotImplementedError


class DropOperand(_Ours):
    """a + b becomes a; a * b becomes a."""

    def places(self, node: Any) -> list[Any]:
        if node.type not in ("arith_expr", "term"):
            return []

        def drop(at: int) -> Any:
            del node.children[at : at + 2]
            return node.children[0] if len(node.children) == 1 else node

        return [
            (_span(node.children[at]), lambda at=at: drop(at))
            for at in range(1, len(node.children), 2)
        ]


class DropTranspose(_Ours):
    """x.T becomes x, and x.transpose(...), x.swapaxes(...) too."""

    def places(self, node: Any) -> list[Any]:
        found = []
        children = getattr(node, "children", [])
        for at, child in enumerate(children):
            if child.type == "trailer" and child.children[0].value == ".":
                name = child.children[1].value
                count = {"T": 1, "transpose": 2, "swapaxes": 2}.get(name, 0)
                if count:
                    found.append((_span(child), lambda a=at, c=count: self._drop(node, a, c)))
        return found

    @staticmethod
    def _drop(node: Any, at: int, count: int) -> Any:
        del node.children[at : at + count]
        return node


class NoGradient(_Ours):
    """One of the gradients that a backward returns becomes None."""

    def places(self, node: Any) -> list[Any]:
        if not node.type.startswith("testlist"):
            return []
        inside = node.parent
        while inside is not None and inside.type not in ("funcdef", "lambdef"):
            inside = inside.parent
        if inside is None:
            return []
        if inside.type == "funcdef" and "backward" not in inside.name.value:
            return []
        if node.parent.type == "expr_stmt" and node.parent.children[0] is node:
            return []  # names that are assigned to

        def replace(at: int) -> Any:
            node.children[at] = Name("None", node.children[at].start_pos, prefix=" ")
            return node

        return [
            (_span(child), lambda at=at: replace(at))
            for at, child in enumerate(node.children)
            if at % 2 == 0 and not isinstance(child, Number) and child.get_code() != "None"
        ]


class SwapArguments(_Ours):
    """f(a, b) becomes f(b, a)."""

    def places(self, node: Any) -> list[Any]:
        if node.type != "arglist" or node.parent.type != "trailer" or len(node.children) < 3:
            return []
        first, second = node.children[0], node.children[2]
        called = node.parent.get_previous_sibling()
        name = called.get_last_leaf().value if called is not None else ""
        if "argument" in (first.type, second.type) or name in ("isinstance", "getattr", "cast"):
            return []

        def swap() -> Any:
            node.children[0], node.children[2] = second, first
            return node

        return [(_span(first), swap)]


class DropStatement(_Ours):
    """A statement that changes something, or that raises, becomes pass."""

    def places(self, node: Any) -> list[Any]:
        if node.type != "simple_stmt":
            return []
        first = node.children[0]
        changes = first.type == "expr_stmt" and (
            first.children[1].type == "operator"
            and (first.children[1].value != "=" or first.children[0].type in ("atom_expr", "power"))
        )
        if not (changes or first.type in ("raise_stmt", "atom_expr", "power")):
            return []

        def drop() -> Any:
            prefix = first.get_first_leaf().prefix
            node.children[0] = Name("pass", first.start_pos, prefix=prefix)
            return node

        return [(_span(first), drop)]


class OneBranch(_Ours):
    """a if c else b becomes a, or b."""

    def places(self, node: Any) -> list[Any]:
        if node.type != "test" or len(node.children) != 5:
            return []
        return [(_span(node.children[at]), lambda at=at: node.children[at]) for at in (0, 4)]


OURS = {
    f"gradient/{kind.__name__}": kind
    for kind in (DropOperand, DropTranspose, NoGradient, SwapArguments, DropStatement, OneBranch)
}


@dataclass(frozen=True)
class Mutant:
    """One planted fault.

    Attributes
    ----------
    path : str
        The file.
    operator : str
        Its kind.
    occurrence : int
        Which of the places in the file where this kind fits.
    line, column : int
    where : str
        The function or class around it.
    """

    path: str
    operator: str
    occurrence: int
    line: int
    column: int
    where: str

    def source(self) -> str:
        """The file's text with the fault in it."""
        text = Path(self.path).read_text(encoding="utf-8")
        return str(mutate_code(text, _operator(self.operator), self.occurrence))


def _operator(name: str) -> Operator:
    return OURS[name]() if name in OURS else cosmic_ray.plugins.get_operator(name)()


def find(path: Path) -> tuple[list[Mutant], int]:
    """The meaningful mutants of a file, and how many more the rules left out."""
    text = path.read_text(encoding="utf-8")
    tree, skipped, mutants, seen = get_ast(text), 0, [], {text}
    spans = list(meaningless(text))
    for name in (*NAMES, *OURS):
        operator = _operator(name)
        places = (
            (node, start)
            for node in ast_nodes(tree)
            for start, _ in operator.mutation_positions(node)
        )
        for occurrence, (node, start) in enumerate(places):
            if any(low <= start < high for low, high in spans):
                skipped += 1
                continue
            where = ASTQuery(node).get_definition_name() or "module"
            mutant = Mutant(str(path), name, occurrence, *start, where)
            try:
                source = mutant.source()
                ast.parse(source)
            except (SyntaxError, ValueError):
                continue  # no program at all
            if source not in seen:  # two operators may plant the same fault
                seen.add(source)
                mutants.append(mutant)
    return mutants, skipped


def meaningless(text: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Spans (line, column) to (line, column) in which a change means nothing to a number."""
    lines = text.splitlines()

    def span(node: Any) -> Any:
        def characters(line: int, column: int) -> int:
            return len(lines[line - 1].encode()[:column].decode())

        return (
            (node.lineno, characters(node.lineno, node.col_offset)),
            (node.end_lineno, characters(node.end_lineno, node.end_col_offset)),
        )

    tree = ast.parse(text)
    nodes: list[ast.AST] = []
    for node in ast.walk(tree):
        if (
            (isinstance(node, ast.FunctionDef) and node.name in ("__repr__", "__str__"))
            or (isinstance(node, ast.Constant) and isinstance(node.value, str))
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
            or (isinstance(node, ast.keyword) and node.arg == "strict")
            or isinstance(node, (ast.JoinedStr, ast.ImportFrom))
        ):
            nodes.append(node)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            nodes += [*node.exc.args, *(keyword.value for keyword in node.exc.keywords)]
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                nodes.append(getattr(node, name))
        if isinstance(node, ast.Assign):
            target = ast.unparse(node.targets[0])
            aliases = isinstance(node.value, (ast.BinOp, ast.Subscript)) and node in tree.body
            if target in ("__slots__", "__all__") or aliases:
                nodes.append(node)
    spans = [span(node) for node in nodes]
    yield from spans

    # what is assigned, and then read inside these spans only, is for the messages too
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            read = {}
            for node in ast.walk(function):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    outside = not any(low <= span(node)[0] < high for low, high in spans)
                    read[node.id] = read.get(node.id, False) or outside
            for node in ast.walk(function):
                if isinstance(node, ast.Assign) and all(
                    isinstance(target, ast.Name) and read.get(target.id) is False
                    for target in node.targets
                ):
                    yield span(node)
