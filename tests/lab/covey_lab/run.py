# SPDX-License-Identifier: GPL-3.0-or-later
"""Running this machine's commands, with errors a person can act on. Never knows what a command is for."""

import contextlib
import fcntl
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path


class LabError(Exception):
    """Something in the lab went wrong; the text says what, where and what to do next."""


def run(
    *argv: str | Path,
    stdin: str | None = None,
    check: bool = True,
    timeout: float = 120,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command of this machine; a failure becomes a LabError that shows the command and what it said."""
    words = [str(word) for word in argv]
    source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, env=env, **source)
    except FileNotFoundError:
        raise LabError(f"{words[0]} is not installed on this machine: run `tools/prepare lab`") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"no end after {timeout:g} s: {shlex.join(words)}") from None
    if check and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing")[-4000:]
        raise LabError(f"exit {done.returncode}: {shlex.join(words)}\n{said}")
    return done


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; waits for whoever has it. Ends with the process, so a crash leaves no lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
