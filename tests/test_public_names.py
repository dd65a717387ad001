"""Tests that every module says what it is for and what is public in it."""

from __future__ import annotations

import ast

import pytest
import source_tree

_MODULES = [
    path for path in source_tree.python_files() if path.startswith(("tfp_distill/", "trainers/"))
]


def _definitions(path: str) -> dict[str, ast.stmt]:
    """What the top level of a module defines or imports, by name."""
    found: dict[str, ast.stmt] = {}
    body = source_tree.parse(path).body
    late = [inner for node in body if isinstance(node, ast.If) for inner in node.body]
    for node in [*body, *late]:  # Late are those under `TYPE_CHECKING`.
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: node for alias in node.names}
    return found


def _public_names(path: str) -> list[str] | None:
    assignment = _definitions(path).get("__all__")
    return assignment and ast.literal_eval(assignment.value)


@pytest.mark.parametrize("path", source_tree.python_files())
def test_a_module_has_a_docstring(path):
    assert ast.get_docstring(source_tree.parse(path))


@pytest.mark.parametrize("path", _MODULES)
def test_public_names_are_listed(path):
    defined = {name for name in _definitions(path) if name not in ("__all__", "annotations")}
    assert _public_names(path) or not defined, f"{path} needs `__all__`"


@pytest.mark.parametrize("path", _MODULES)
def test_public_names_exist_and_are_documented(path):
    definitions = _definitions(path)
    for name in _public_names(path) or []:
        node = definitions.get(name)
        submodules = {
            f"{path.removesuffix('__init__.py')}{name}{end}" for end in (".py", "/__init__.py")
        }
        assert node or submodules & set(_MODULES), (
            f"{path}: `__all__` names {name!r}, which is missing"
        )
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert ast.get_docstring(node), f"{path}: {name} needs a docstring"


@pytest.mark.parametrize("path", [path for path in _MODULES if path.endswith("/__init__.py")])
def test_a_package_offers_what_is_public_in_its_modules(path):
    definitions = _definitions(path)
    for name in _public_names(path) or []:
        if isinstance(node := definitions.get(name), ast.ImportFrom):
            origin = node.module.replace(".", "/")
            file = next(f for f in (f"{origin}.py", f"{origin}/__init__.py") if f in _MODULES)
            assert name in _public_names(file), f"{name} must be in `__all__` of {file}"
