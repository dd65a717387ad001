"""The project's Python files and what they import, read without running them."""

from __future__ import annotations

import ast
import functools
import pathlib

# Not resolved: Bazel shows a test only the files that it declares, as links.
ROOT = pathlib.Path(__file__).absolute().parent.parent
FOLDERS = ("benchmarks", "flags", "tests", "tfp_distill", "trainers")
# Folders that are installed somewhere else.
_INSTALLED = {"tfp_distill/flags": "flags", "tfp_distill/trainers": "trainers"}


@functools.cache
def python_files() -> tuple[str, ...]:
    """Returns the paths of all Python files of the project but setup.py."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return tuple(sorted(path.relative_to(ROOT).as_posix() for path in found))


@functools.cache
def parse(path: str) -> ast.Module:
    """Returns the syntax tree of a file."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), path)


def imported_files(path: str) -> set[str]:
    """Returns the project's files that a file imports, in whatever scope."""
    folder = path.rpartition("/")[0]
    found = (_file(name, folder) for name in imported_names(parse(path), folder))
    return {name for name in found if name and name != path}


def imported_names(tree: ast.Module, folder: str) -> set[str]:
    """Returns everything that may be a module, with the dots of its absolute name as slashes.

    `from a.b import c` gives a/b and a/b/c, because c may be a module or a name inside a/b.

    Args:
      tree: a parsed file.
      folder: the file's folder, for its relative imports.
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.replace(".", "/") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module.replace(".", "/") if node.module else ""
            if node.level:
                parents = folder.split("/")[: len(folder.split("/")) - node.level + 1]
                base = "/".join([*parents, base] if base else parents)
            names.add(base)
            names.update(f"{base}/{alias.name}" for alias in node.names)
    return names


def _file(name: str, folder: str) -> str | None:
    """Finds the file of a module; pytest lets tests import their neighbours by name alone.

    And what lies beside tests/conftest.py, which every test has.
    """
    for installed, source in _INSTALLED.items():
        if name == installed or name.startswith(installed + "/"):
            name = source + name[len(installed) :]
    folders = [folder, "tests"] if folder.startswith("tests") else [folder]
    neighbours = (f"{place}/{name}.py" for place in folders)
    for candidate in (f"{name}.py", f"{name}/__init__.py", *neighbours):
        if candidate in python_files():
            return candidate
    return None
