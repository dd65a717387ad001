"""Tests that the Bazel targets cover every file.

BUILD is written in a part of Python, so it is run here with recorders in place of its rules.
"""

from __future__ import annotations

import functools
from typing import Any

import source_tree


def _glob(patterns: list[str], exclude: list[str] | tuple[str, ...] = ()) -> list[str]:
    found, left_out = (
        {path.relative_to(source_tree.ROOT).as_posix() for p in some for path in _files(p)}
        for some in (patterns, exclude)
    )
    return sorted(found - left_out)


def _files(pattern: str) -> list[Any]:
    pattern = pattern + "/*" if pattern.endswith("**") else pattern
    return [path for path in source_tree.ROOT.glob(pattern) if path.is_file()]


def _targets() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}

    def record(kind: str, *, name: str, srcs: list[str], **options: Any) -> None:
        assert name not in found
        found[name] = {"kind": kind, "srcs": srcs, **options}

    kinds = ("filegroup", "py_binary", "py_library", "py_test")
    rules: dict[str, Any] = {kind: functools.partial(record, kind) for kind in kinds}
    others = {"glob": _glob, "package": lambda **_: None}
    exec((source_tree.ROOT / "BUILD").read_text(encoding="utf-8"), rules | others)
    return found


_TARGETS = _targets()


def test_every_file_is_in_a_target():
    python = {name: t for name, t in _TARGETS.items() if t["kind"] != "filegroup"}
    sources = {source for target in python.values() for source in target["srcs"]}
    assert sources == set(source_tree.python_files())


def test_every_file_that_is_named_exists():
    named = {source for target in _TARGETS.values() for source in target["srcs"]}
    assert all((source_tree.ROOT / path).is_file() for path in named)


def test_every_dependency_is_a_target():
    dependencies = {
        name for target in _TARGETS.values() for name in target.get("deps", ()) if name[0] == ":"
    }
    assert {name[1:] for name in dependencies} <= set(_TARGETS)


def test_every_test_file_is_a_test_that_runs_it():
    tests = {t["args"][0]: t["srcs"] for t in _TARGETS.values() if t["kind"] == "py_test"}
    files = [path for path in source_tree.python_files() if "/test_" in path]
    assert tests == {file: ["tests/bazel_pytest.py", file] for file in files}
