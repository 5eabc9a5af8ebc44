"""Names of the runtime: a public name means one thing, and a variable is named by a noun."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import devices
import edge_runtime

FOLDERS = [Path(package.__file__ or "").parent for package in (devices, edge_runtime)]
NO_NOUNS = {"found", "his", "its", "said", "shown", "told", "twin", "what", "who", "wish"}
SAME_ROLE = {
    "MAX_DAMAGED",  # damaged pictures in a row, each device's own limit
    "DECODER",  # the library that decodes pictures, each source's own
    "main",  # where a process begins
}
"""Public names that two modules may define: they mean the same in both."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            yield str(path.relative_to(folder.parent)), ast.parse(path.read_text())


MODULES = dict(modules())


def defined(module: ast.Module) -> set[str]:
    """The classes, functions and constants that a module defines itself."""
    names: set[str] = set()
    for node in module.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {part.id for target in targets for part in variables(target)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return {name for name in names if not name.startswith("_")}


def variables(node: ast.AST) -> Iterator[ast.Name]:
    return (part for part in ast.walk(node) if isinstance(part, ast.Name))


def bound(node: ast.AST) -> str | None:
    """The name that a node gives to a value: a variable, parameter or attribute."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            return name
        case ast.Attribute(attr=name, ctx=ast.Store()):
            return name.lstrip("_")
        case ast.MatchAs(name=name) | ast.ExceptHandler(name=name):
            return name
    return None


def test_a_public_name_is_defined_once() -> None:
    places = defaultdict(list)
    for path, module in MODULES.items():
        for name in defined(module) - SAME_ROLE:
            places[name].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("name", sorted(SAME_ROLE))
def test_an_exception_is_needed(name: str) -> None:
    assert sum(name in defined(module) for module in MODULES.values()) > 1


def test_a_variable_is_named_by_a_noun() -> None:
    wrong = [
        f"{path}:{getattr(node, 'lineno', '')} {name}"
        for path, module in MODULES.items()
        for node in ast.walk(module)
        if (name := bound(node)) in NO_NOUNS
    ]
    assert wrong == []
