"""What Bazel starts for each test: pytest on the file that is named, in the way pytest needs it."""

from __future__ import annotations

import os
import sys

import pytest

if __name__ == "__main__":
    arguments = ["-p", "no:cacheprovider", "-m", "slow or not slow", *sys.argv[1:]]
    if "XML_OUTPUT_FILE" in os.environ:
        arguments.append(f"--junitxml={os.environ['XML_OUTPUT_FILE']}")
    sys.exit(pytest.main(arguments))
