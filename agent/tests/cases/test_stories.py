# SPDX-License-Identifier: GPL-3.0-or-later
"""Each story of this directory still goes as it is recorded; ``--rewrite-cases`` records it anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from stories import retold

STORIES = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_story(story: Path, request: pytest.FixtureRequest) -> None:
    told = story.read_text(encoding="utf-8")
    found = retold(told)
    if request.config.getoption("--rewrite-cases"):
        story.write_text(found, encoding="utf-8")
        return
    assert found == told
