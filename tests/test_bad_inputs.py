"""Tests that what is wrong is refused in one line, and that the page of it is true."""

from __future__ import annotations

import bad_inputs
import pytest
import source_tree

_ALL = [text for texts in bad_inputs.BAD_INPUTS.values() for text in texts]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield bad_inputs.workplace()


@pytest.mark.parametrize("expression", _ALL)
def test_a_bad_input_is_refused_in_one_line_that_says_what_it_got(expression, names):
    message = bad_inputs.answer(expression, names)
    assert "\n" not in message
    assert "`" in message or "'" in message or "Could not interpret" in message, message


def test_the_page_holds_these_inputs_and_their_answers():
    path = source_tree.ROOT / "docs" / "bad_inputs.md"
    assert path.read_text() == bad_inputs.page(), "write it: python tests/bad_inputs.py > " + str(
        path
    )
    assert len(_ALL) >= 100
