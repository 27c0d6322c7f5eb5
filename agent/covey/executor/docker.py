# SPDX-License-Identifier: GPL-3.0-or-later
"""The door to Docker Engine, and the only importer of its SDK.

It calls and converts; what to call, and when to try again, is the worker's business.  The engine may go away, come
back and be another release at any moment: the client is made anew after each silence, so that it negotiates anew.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.transport import UnixHTTPAdapter
from docker.types.daemon import CancellableStream

from covey import __version__
from covey.executor import translate
from covey.executor.base import Container, EngineEvent
from covey.executor.threads import Threads, hand_over
from covey.executor.translate import NODE_LABEL, TASK_LABEL, Owner
from covey.model.errors import EngineDown, EngineError, FailedPrecondition
from covey.model.objects import NodeDescription, Task

log = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_ENGINE = "unix:///var/run/docker.sock"
#: Calls at once: short ones, and those that last as long as a registry or a stopping process pleases.
SHORT_CALLS, LONG_CALLS = 8, 32
#: Seconds until an engine that accepts a call but says nothing counts as silent.
ANSWER_TIMEOUT = 60
FIRST_RETRY, LAST_RETRY = 0.1, 2.0
#: What can change a task; the engine also reports each run of a health check.
EVENTS = ["create", "start", "die", "destroy", "oom", "health_status"]
CONFLICT = 409


class DockerExecutor:
    """The Executor of a real engine.  Without an owner it can only look at the engine, as before joining."""

    def __init__(self, owner: Owner | None = None, url: str = DEFAULT_ENGINE) -> None:
        self._owner, self._url = owner, url
        self._short, self._long = Threads("engine", SHORT_CALLS), Threads("engine-long", LONG_CALLS)
        self._client: docker.APIClient | None = None
        self._connecting = threading.Lock()  # of several calls at once, one makes the client
        self._ids: dict[str, str] = {}  # task id -> container id, to spare a search; never trusted beyond that

    async def preflight(self) -> None:
        found = translate.problems(await self._call(lambda client: client.info()))
        if found:
            raise FailedPrecondition("; ".join(found))

    async def describe(self) -> NodeDescription:
        def ask(client: docker.APIClient) -> NodeDescription:
            return translate.description(client.info(), client.version(), __version__)

        return await self._call(ask)

    async def containers(self) -> dict[str, Container]:
        def ask(client: docker.APIClient) -> list[Container]:
            listed = client.containers(all=True, filters={"label": [TASK_LABEL, self._mine()]})
            return [found for found in (_inspect(client, item["Id"]) for item in listed) if found]

        found = {container.task_id: container for container in await self._call(ask)}
        self._ids = {task_id: container.id for task_id, container in found.items()}
        return found

    async def inspect(self, task_id: str) -> Container | None:
        return await self._call(lambda client: self._find(client, task_id))

    def _find(self, client: docker.APIClient, task_id: str) -> Container | None:
        known = self._ids.get(task_id)
        container = _inspect(client, known) if known else None
        if container is not None:
            return container
        self._ids.pop(task_id, None)
        listed = client.containers(all=True, filters={"label": [f"{TASK_LABEL}={task_id}", self._mine()]})
        container = next(filter(None, (_inspect(client, item["Id"]) for item in listed)), None)
        if container is not None:
            self._ids[task_id] = container.id
        return container

    async def pull(self, task: Task) -> None:
        image = task.spec.container_spec.image
        if not await self._call(lambda client: _has_image(client, image)):
            await self._call(lambda client: _pull(client, image), self._long)

    async def create(self, task: Task) -> Container:
        return await self._call(lambda client: self._create(client, task))

    def _create(self, client: docker.APIClient, task: Task) -> Container:
        there = self._find(client, task.id)
        if there is not None:
            return there
        config = translate.container_config(task, self._claimed())
        made = client.create_container_from_config(config, name=task.name)
        self._ids[task.id] = made["Id"]
        return translate.container(client.inspect_container(made["Id"]))

    async def start(self, container_id: str) -> None:
        await self._call(lambda client: client.start(container_id))

    async def stop(self, container_id: str, grace: float) -> None:
        def stop(client: docker.APIClient) -> None:
            with suppress(NotFound):
                client.stop(container_id, timeout=max(0, round(grace)))

        await self._call(stop, self._long)

    async def remove(self, container_id: str) -> None:
        await self._call(lambda client: _remove(client, container_id), self._long)

    async def events(self) -> AsyncIterator[EngineEvent]:
        pause = FIRST_RETRY
        while True:
            try:
                async for event in self._watch():
                    if event.task_id is not None:
                        pause = FIRST_RETRY
                    yield event
            except EngineDown as error:
                log.info("waiting for the container engine: %s", error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_RETRY)

    async def _watch(self) -> AsyncIterator[EngineEvent]:
        """The events of one connection, after a general one; ends when the engine hangs up."""
        queue: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        stream = await self._call(self._subscribe)

        def pump() -> None:
            try:
                for item in stream:
                    hand_over(loop, queue.put_nowait, _event(item))
            except (OSError, ValueError) as error:
                log.debug("the engine's events ended: %s", error)
            finally:
                hand_over(loop, queue.put_nowait, None)

        reader = asyncio.ensure_future(Threads("engine-events", 1).call(pump))
        try:
            yield EngineEvent()
            while (event := await queue.get()) is not None:
                yield event
            self._forget()
        finally:
            _hang_up(stream)
            reader.cancel()

    def _subscribe(self, client: docker.APIClient) -> CancellableStream:
        # The engine answers before it subscribes us, so ask for what happened since a moment it named before.
        # The SDK passes a refusal of the engine off as an end without events; it wants seconds, not its own words.
        since = f"{datetime.fromisoformat(client.info()['SystemTime']).timestamp():.6f}"
        filters = {"type": "container", "label": [TASK_LABEL, self._mine()], "event": EVENTS}
        return client.events(since=since, filters=filters, decode=True)

    async def close(self) -> None:
        self._forget()

    def _mine(self) -> str:
        return f"{NODE_LABEL}={self._claimed().node_id}"

    def _claimed(self) -> Owner:
        if self._owner is None:
            raise EngineError("this node is in no cluster yet, so it has no containers")
        return self._owner

    def _forget(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> docker.APIClient:
        with self._connecting:
            if self._client is None:
                self._client = _connect(self._url)
            return self._client

    async def _call(self, function: Callable[[docker.APIClient], T], threads: Threads | None = None) -> T:
        """``function`` in a thread; the SDK's errors become ours here and nowhere else."""
        try:
            return await (threads or self._short).call(lambda: function(self._connected()))
        except APIError as error:
            raise EngineError((error.explanation or str(error)).strip()) from error
        except (OSError, DockerException) as error:  # the HTTP library's errors are OSErrors
            self._forget()
            raise EngineDown(f"the container engine at {self._url} does not answer: {_reason(error)}") from error


class _OnePool(UnixHTTPAdapter):
    """Connections shared by all calls.

    The SDK keeps a pool for each URL and closes the oldest of 25, under the hands of whoever is using it.
    """

    def get_connection(self, url: str, proxies: Any = None) -> Any:
        return super().get_connection("http+docker://localhost/", proxies)


def _connect(url: str) -> docker.APIClient:
    _knock(url)
    client = docker.APIClient(url, version="auto", timeout=ANSWER_TIMEOUT)
    adapter = _OnePool(url.removeprefix("unix://"), ANSWER_TIMEOUT, max_pool_size=SHORT_CALLS + LONG_CALLS)
    client.mount("http+docker://", adapter)
    client._custom_adapter = adapter
    return client


def _knock(url: str) -> None:
    """Raise OSError if nobody listens; the SDK would leave its socket open then."""
    scheme, _, path = url.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as tried:
            tried.settimeout(ANSWER_TIMEOUT)
            tried.connect(path)


def _inspect(client: docker.APIClient, container_id: str) -> Container | None:
    try:
        return translate.container(client.inspect_container(container_id))
    except NotFound:
        return None


def _has_image(client: docker.APIClient, image: str) -> bool:
    try:
        client.inspect_image(image)
    except NotFound:
        return False
    return True


def _pull(client: docker.APIClient, image: str) -> None:
    """Anonymous: an empty set of credentials keeps the SDK from reading root's.  Read to its end, or it stays open."""
    failure = ""
    for progress in client.pull(image, stream=True, decode=True, auth_config={}):
        failure = failure or str(progress.get("error", "")).strip()
    if failure:
        raise EngineError(failure)


def _remove(client: docker.APIClient, container_id: str) -> None:
    try:
        client.remove_container(container_id, v=True, force=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != CONFLICT or "already in progress" not in (error.explanation or ""):
            raise


def _event(item: dict[str, Any]) -> EngineEvent:
    return EngineEvent(task_id=item["Actor"]["Attributes"].get(TASK_LABEL))


def _hang_up(stream: CancellableStream) -> None:
    with suppress(OSError, AttributeError):  # the SDK looks for a socket that may be gone already
        stream.close()


def _reason(error: BaseException) -> str:
    """The innermost cause: the outer ones are the HTTP library's packaging."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error)
