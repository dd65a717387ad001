"""Brings what lies beside docs/ into the site: the results."""

from __future__ import annotations

import pathlib
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = pathlib.Path(__file__).parent.parent


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Adds results/ as it is."""
    for path in sorted((_ROOT / "results").iterdir()):
        uri = path.relative_to(_ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Has links find it there: in the repository they go up first."""
    return markdown.replace("](../results/", "](results/")
