"""Tests that the Bazel targets are true: every file in one of them, with what it imports.

BUILD is written in a part of Python, so it is run here with recorders in place of its rules.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
import source_tree

_RUNNER = "tests/bazel_pytest.py"


@dataclasses.dataclass(frozen=True)
class _Target:
    kind: str
    name: str
    srcs: tuple[str, ...]
    deps: frozenset[str]


def _targets() -> list[_Target]:
    found: list[_Target] = []

    def record(kind: str, *, name: str, srcs: list[str], deps: Any = (), **_: Any) -> None:
        assert len(deps) == len(set(deps)), f"{name} names a dependency twice"
        found.append(_Target(kind, name, tuple(srcs), frozenset(dep[1:] for dep in deps)))

    kinds = ("py_binary", "py_library", "py_test")
    rules = {kind: functools.partial(record, kind) for kind in kinds}
    others = {"filegroup": lambda **_: None, "glob": lambda *_, **__: [], "package": lambda **_: 0}
    exec((source_tree.ROOT / "BUILD").read_text(encoding="utf-8"), rules | others)
    return found


_TARGETS = {target.name: target for target in _targets()}
_TARGET_OF = {
    source: target.name
    for target in _TARGETS.values()
    for source in target.srcs
    if source != _RUNNER
}


def test_every_file_is_in_one_target():
    sources = [source for target in _TARGETS.values() for source in target.srcs]
    assert len(_TARGETS) == len(_targets())
    assert sorted({_RUNNER, *sources}) == sorted(source_tree.python_files())
    assert len(set(sources) - {_RUNNER}) == len([s for s in sources if s != _RUNNER])


@pytest.mark.parametrize("name", sorted(_TARGETS))
def test_dependencies_are_the_imports(name):
    target = _TARGETS[name]
    imported = {file for source in target.srcs for file in source_tree.imported_files(source)}
    expected = {_TARGET_OF.get(file, f"no target has {file}") for file in imported} - {name}
    if target.kind == "py_test":
        expected.add("tests/conftest")
    assert target.deps == expected


def test_every_test_file_is_a_test():
    tests = {target.srcs for target in _TARGETS.values() if target.kind == "py_test"}
    files = [path for path in source_tree.python_files() if "/test_" in path]
    assert tests == {(_RUNNER, file) for file in files}
