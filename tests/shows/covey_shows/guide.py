# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide followed to the letter: what a show types is what a page says, so a page cannot say what does not work."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from covey_lab.host import Host, Result
from covey_shows.cluster import SOCKET

PAGES = Path(__file__).resolve().parents[3] / "docs/guide"
#: How a page's reader has set up the shell on a manager.
EXPORT = f"export DOCKER_HOST=unix://{SOCKET}\n"


def commands(page: str) -> set[str]:
    """What a page has to be typed: lines, without what is remarked beside them, and words in its text."""
    text = re.sub(r" \\\n\s+", " ", (PAGES / page).read_text())
    blocks = (line.strip() for line in text.splitlines() if line.startswith("    "))
    return {re.sub(r"\s+# .*", "", line) for line in blocks} | set(re.findall(r"`([^`\n]+)`", text))


def follow(
    page: str, line: str, on: Host, meaning: dict[str, str] | None = None, *, check: bool = True, answer: str = ""
) -> Result:
    """Type a line of a page as root on a host, with these words of it replaced by what they stand for.

    `answer` is typed at a terminal, each time something is asked.
    """
    assert line in commands(page), f"docs/guide/{page} does not say `{line}`"
    for word, meant in (meaning or {}).items():
        assert word in line
        line = line.replace(word, meant)
    return typed(on, line, answer) if answer else on.ssh(EXPORT + line, check=check)


def typed(host: Host, line: str, answer: str) -> Result:
    """A command at a terminal, with that answer to whatever it asks (a line left open with `: `)."""
    ssh = [*host.shell.command(), "-tt", f"{EXPORT}timeout --foreground 60 {line}"]
    with subprocess.Popen(ssh, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        seen = b""
        while piece := shell.stdout.read1(4096):
            seen += piece
            if seen.endswith(b": "):
                shell.stdin.write(answer.encode() + b"\n")
                shell.stdin.flush()
    return Result(host.name, line, shell.returncode, seen.decode().replace("\r", ""), "").check()
