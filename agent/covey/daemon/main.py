# SPDX-License-Identifier: GPL-3.0-or-later
"""`coveyd`: reads the configuration, puts the parts together, serves the socket, and ends in good order on SIGTERM.

Exit status: 0 after a signal, 78 (EX_CONFIG) for a configuration or state that a person must look at, which systemd
is told not to retry, 1 for anything else, after which it starts the agent anew.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import covey
from covey.api import errors as api_errors
from covey.api.front.engine import Engine
from covey.api.front.server import Front
from covey.api.front.sockets import listen
from covey.api.router import ControlApi
from covey.daemon import systemd
from covey.daemon.clock import SystemClock
from covey.daemon.config import Config, read_config
from covey.daemon.life import Life
from covey.daemon.member import Member, clear
from covey.daemon.outside import Outside
from covey.daemon.places import Places, Settings
from covey.daemon.renewal import Renewals
from covey.daemon.supervisor import Supervisor
from covey.daemon.watchdog import feed
from covey.executor.docker import DockerExecutor
from covey.executor.translate import Owner
from covey.model.errors import BadConfig, BadState, CoveyError
from covey.security.identity import Identity
from covey.store.raft.files import SyncFailed

EX_CONFIG = 78
#: Seconds in which a restart of the agent is over even on a very busy host; what managers are asked to wait.
RESTART_WITHIN = 30.0
DEFAULT_CONFIG = Path("/etc/covey/coveyd.toml")

log = logging.getLogger("covey")


class Daemon:
    """Everything that runs in this process, made once."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._places = Places(config.state_dir)
        self._clock = SystemClock()
        self._hostname = socket.gethostname()
        self._supervisor = Supervisor()
        self._engine = Engine(Path(config.engine.removeprefix("unix://")))
        self._looker = DockerExecutor(url=config.engine)
        self._life = Life(
            config,
            self._places,
            self._clock,
            hostname=self._hostname,
            preflight=self._looker.preflight,
            outside=Outside(),
            make_member=self._make_member,
            clear=self._clear,
        )
        self._renewals = Renewals(self._life, self._clock)
        self._api = ControlApi(self._life, self._engine, self._clock)

    def _make_member(self, who: Identity, settings: Settings) -> Member:
        return Member(
            who,
            settings,
            self._config,
            self._places,
            self._clock,
            supervisor=self._supervisor,
            answer_as_leader=self._api.answer_as_leader,
            renewals=self._renewals,
        )

    async def _clear(self, node_id: str, cluster_id: str) -> None:
        await clear(Owner(node_id, cluster_id), self._config)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; raises what ended it otherwise."""
        over = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, over.set)
        with self._places.held():
            await self._live(over)

    async def _live(self, over: asyncio.Event) -> None:
        await self._life.start()
        try:
            self._supervisor.start("renewal of the certificate", self._renewals.run())
            front = Front(self._engine, [self._api], api_errors.explain)
            group = self._config.socket_group or None
            self._supervisor.start("control socket", front.serve(listen(self._config.socket, group)))
            self._feed_watchdog()
            systemd.notify(os.environ, READY="1")
            log.info("coveyd %s is ready on %s", covey.__version__, self._config.socket)
            await self._until(over)
            if await systemd.is_restarting(os.environ):
                await self._life.announce_restart(RESTART_WITHIN)
        finally:
            systemd.notify(os.environ, STOPPING="1")
            await self._life.stop()
            await self._supervisor.stop()
            await self._looker.close()

    def _feed_watchdog(self) -> None:
        period = systemd.watchdog_period(os.environ, os.getpid())
        if period is not None:
            fed = partial(systemd.notify, os.environ, WATCHDOG="1")
            self._supervisor.start("watchdog", feed(period, self._life.turns, fed))

    async def _until(self, over: asyncio.Event) -> None:
        ended = asyncio.ensure_future(over.wait())
        failed = asyncio.ensure_future(self._supervisor.failed())
        await asyncio.wait({ended, failed}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (ended, failed):
            waiting.cancel()
        if failed.done() and not failed.cancelled():
            raise failed.result()


def main(arguments: Sequence[str] | None = None) -> int:
    """The process's exit status."""
    parser = argparse.ArgumentParser(prog="coveyd", description="Covey's node agent.")
    parser.add_argument("--version", action="version", version=covey.__version__)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help=f"configuration file ({DEFAULT_CONFIG})")
    wanted = parser.parse_args(arguments)
    try:
        config = read_config(wanted.config)
    except BadConfig as error:
        print(f"coveyd: {error}", file=sys.stderr)  # noqa: T201 - logging is not set up before this
        return EX_CONFIG
    level = config.log_level.upper()
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    # Where each thread was goes to the journal when systemd's watchdog ends the process; values do not.
    faulthandler.enable()
    # The Raft thread must get its turn within a millisecond, whatever the application is busy with.
    sys.setswitchinterval(0.001)
    try:
        asyncio.run(_run(config))
    except BadState as error:
        log.error("%s", error)
        return EX_CONFIG
    except CoveyError as error:
        log.error("%s", error)
        return 1
    except SyncFailed as error:
        # What was written may be there or not; only what a new process reads is known.
        log.error(
            "%s; see to the disk that holds %s: until it takes data the agent ends again", error, config.state_dir
        )
        return 1
    except OSError as error:
        log.error("the agent cannot go on: %s", error)
        return 1
    return 0


async def _run(config: Config) -> None:
    await Daemon(config).run()


if __name__ == "__main__":
    sys.exit(main())
