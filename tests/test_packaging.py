"""Tests of the wheel: built from a copy of the project and imported from where it is unpacked."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import source_tree
from packaging.requirements import Requirement

_PROJECT = tomllib.loads((source_tree.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
_VERSION = _PROJECT["project"]["version"]
_SOURCES = ("flags", "tfp_distill", "trainers")
_TO_BUILD = ("LICENSE", "README.md", "pyproject.toml", "setup.py", *_SOURCES)


def _python(code: str, directory: pathlib.Path) -> str:
    """Runs code in a new process that imports from a directory before all others."""
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> pathlib.Path:
    """The directory in which the wheel is unpacked."""
    (backend,) = (Requirement(text) for text in _PROJECT["build-system"]["requires"])
    try:
        installed = importlib.metadata.version(backend.name)
    except importlib.metadata.PackageNotFoundError:
        installed = None
    if installed is None or installed not in backend.specifier:
        pytest.skip(f"building needs {backend}, and {installed or 'none'} is installed")
    copy, wheels, site = (tmp_path_factory.mktemp(name) for name in ("copy", "wheels", "site"))
    for name in _TO_BUILD:
        source = source_tree.ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    _python(f"from setuptools import build_meta; build_meta.build_wheel({str(wheels)!r})", copy)
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_the_only_top_level_name_is_that_of_the_library(unpacked):
    names = {path.name for path in unpacked.iterdir()}
    assert names == {"tfp_distill", f"tfp_distill-{_VERSION}.dist-info"}


def test_every_file_is_installed(unpacked):
    expected = set()
    for folder in _SOURCES:
        for path in (source_tree.ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                relative = path.relative_to(source_tree.ROOT)
                expected.add(relative if folder == "tfp_distill" else "tfp_distill" / relative)
    installed = {path.relative_to(unpacked) for path in (unpacked / "tfp_distill").rglob("*")}
    assert {path for path in installed if (unpacked / path).is_file()} == expected


def test_the_installed_scripts_exist(unpacked):
    code = f"""
import importlib.metadata
import tfp_distill.flags
assert tfp_distill.flags.__file__.startswith({str(unpacked)!r})
(found,) = importlib.metadata.distributions(name="tfp-distill", path=[{str(unpacked)!r}])
for script in found.entry_points.select(group="console_scripts"):
    assert callable(script.load())
    print(script.name)
"""
    stages = ("", "-distill", "-evaluate", "-export", "-sample", "-train", "-train-parts")
    assert sorted(_python(code, unpacked).split()) == [f"tfp-distill{stage}" for stage in stages]


def test_the_changelog_has_the_version():
    changelog = (source_tree.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{_VERSION}]" in changelog


def test_every_import_is_a_dependency():
    dependencies = [Requirement(text) for text in _PROJECT["project"]["dependencies"]]
    provided = {dependency.name.replace("-", "_") for dependency in dependencies}
    named_otherwise = {"absl_py": "absl"}
    provided = {named_otherwise.get(name, name) for name in provided}
    paths = [path for path in source_tree.python_files() if path.startswith(_SOURCES)]
    imported = {
        name.split("/")[0]
        for path in paths
        for name in source_tree.imported_names(source_tree.parse(path), path.rpartition("/")[0])
    }
    own = {"tfp_distill", "trainers", *sys.stdlib_module_names}
    # What others of the dependencies need and do not ask for.
    unasked = {"importlib_resources", "tensorboard"}
    assert imported - own == provided - unasked
