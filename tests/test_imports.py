"""Tests that imports run one way, and that importing has no side effects."""

from __future__ import annotations

import ast
import collections
import graphlib
import os
import pathlib
import subprocess
import sys

import pytest
import source_tree

_MODELS = ("bijectors", "networks", "training", "flows")
_GROUND = ("arrays", "pixels", "columns", "domains", "compiling", "files", "recomputation")
_BELOW_RUNS = (*_MODELS, "distillation", "evaluation", "export", "data", *_GROUND)
_LIBRARY = (*_BELOW_RUNS, "runs")
# What each layer may import besides itself.
_BELOW = {
    "bijectors": ("compiling", "recomputation"),
    "recomputation": (),
    "networks": (),
    "compiling": (),
    "files": (),
    "arrays": (),
    "training": ("arrays", "bijectors", "networks", "compiling", "files", "recomputation"),
    "flows": ("bijectors", "networks", "training", *_GROUND),
    "distillation": (*_MODELS, "arrays", "domains"),
    "evaluation": (*_MODELS, *_GROUND),
    "export": (*_MODELS, *_GROUND),
    "data": ("arrays", "domains", "pixels", "columns", "files"),
    "pixels": ("arrays",),
    "columns": ("arrays", "pixels"),
    "domains": ("arrays", "pixels", "columns"),
    "runs": _BELOW_RUNS,
    "tfp_distill": _BELOW_RUNS,
    "trainers": ("tfp_distill", *_LIBRARY),
    "flags": (),
}

_INSTALLED_FILES = [
    path
    for path in source_tree.python_files()
    if path.startswith(("flags/", "tfp_distill/", "trainers/"))
]


def _layer(path: str) -> str:
    """The first folder, or file, below tfp_distill/; tfp_distill/__init__.py is one on its own."""
    top, *below = path.removesuffix(".py").split("/")
    return below[0] if top == "tfp_distill" and below[0] != "__init__" else top


def _run(code: str) -> str:
    """Runs code in a new process that finds the library where this test finds it."""
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(source_tree.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize("path", _INSTALLED_FILES)
def test_imports_run_one_way(path):
    layer = _layer(path)
    assert layer in _BELOW, f"{path}: say here what the new layer {layer!r} may import"
    imported = {name: _layer(name) for name in source_tree.imported_files(path)}
    wrong = {name for name, below in imported.items() if below not in (layer, *_BELOW[layer])}
    assert not wrong, f"{path} must not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a.b", {"a/b"}),
        ("from a import b", {"a", "a/b"}),
        ("from . import c", {"trainers", "trainers/c"}),
        ("from .c import d", {"trainers/c", "trainers/c/d"}),
        ("def f():\n    from a import b", {"a", "a/b"}),
    ],
)
def test_every_kind_of_import_is_read(source, expected):
    assert source_tree.imported_names(ast.parse(source), "trainers") == expected


def test_imported_files_are_found():
    assert source_tree.imported_files("tests/test_imports.py") == {"tests/source_tree.py"}
    assert "trainers/command_line.py" in source_tree.imported_files("trainers/compress.py")


def test_only_the_command_line_reads_global_flags():
    readers = {
        path
        for path in _INSTALLED_FILES
        for node in ast.walk(source_tree.parse(path))
        if getattr(node, "attr", getattr(node, "id", None)) == "FLAGS"
    }
    assert readers == {"trainers/command_line.py"}


def test_below_runs_nothing_knows_flags():
    library = [path for path in _INSTALLED_FILES if _layer(path) in _BELOW_RUNS]
    readers = {
        path
        for path in library
        if "absl/flags" in source_tree.imported_names(source_tree.parse(path), "")
    }
    assert not readers


def test_no_module_imports_itself_through_others():
    imports = {}
    for path in _INSTALLED_FILES:
        # Python has begun to import the packages around a module before it.
        around = {f"{folder}/__init__.py" for folder in pathlib.Path(path).parents}
        imports[path] = source_tree.imported_files(path) - around - {path}
    graphlib.TopologicalSorter(imports).prepare()


@pytest.mark.parametrize("path", _INSTALLED_FILES)
def test_modules_are_short(path):
    lines = len((source_tree.ROOT / path).read_text().splitlines())
    assert lines <= 350, f"{path} has {lines} lines: cut it at its ideas"


def test_folders_are_small():
    modules = collections.Counter(
        os.path.dirname(path) for path in _INSTALLED_FILES if not path.endswith("__init__.py")
    )
    assert {folder: n for folder, n in modules.items() if n > 12} == {}


def test_importing_defines_no_flag_and_loads_nothing_that_is_not_needed():
    code = """
import importlib, sys
import keras, scipy.linalg, tensorflow, tensorflow_probability
from absl import flags
tensorflow_probability.bijectors, tensorflow_probability.distributions  # Both load late.
modules, defined = set(sys.modules), set(flags.FLAGS)
import tfp_distill
tfp_distill.Flow
heavy = {"matplotlib", "pandas", "pyarrow", "tensorflow_datasets"}
print("loaded:", sorted(heavy & (set(sys.modules) - modules)))
import tfp_distill.export
from trainers import compress, distill, evaluate, export, sample, train
print("flags:", sorted(set(flags.FLAGS) - defined))
"""
    assert _run(code).splitlines() == ["loaded: []", "flags: []"]


def test_scripts_define_their_flags_without_tensorflow():
    code = """
import sys
from absl import flags
import tfp_distill
from trainers import compress, distill, evaluate, export, sample, train, train_parts
for script in (compress, distill, evaluate, export, sample, train, train_parts):
    values = flags.FlagValues()
    script.define_flags(values)
    values(["script", "--run_dir=a"])
print(sorted({"keras", "numpy", "tensorflow", "tensorflow_probability"} & set(sys.modules)))
"""
    assert _run(code) == "[]\n"


def test_public_names_come_with_their_first_use():
    code = """
import tfp_distill
assert {"Flow", "load_flow"} <= set(dir(tfp_distill))
from tfp_distill import *
from tfp_distill import flows
assert Flow is tfp_distill.Flow is flows.Flow is tfp_distill.flows.Flow
assert all(getattr(tfp_distill, name) is globals()[name] for name in tfp_distill.__all__)
try:
    tfp_distill.nothing
except AttributeError as error:
    print(error)
"""
    assert _run(code) == "module 'tfp_distill' has no attribute 'nothing'\n"
