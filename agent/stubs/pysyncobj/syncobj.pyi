# The private names are those of 0.3.17, which covey.store.raft.core asserts.
from collections.abc import Callable, Iterable
from typing import Any

from pysyncobj.config import SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

VERSION: str

class _RAFT_STATE:
    FOLLOWER: int

def monotonicTime() -> float: ...

class SyncObj:
    _poller: Any
    _SyncObj__raftLog: Any
    _SyncObj__raftCurrentTerm: int
    _SyncObj__votedForNodeId: str | None
    _SyncObj__raftCommitIndex: int
    _SyncObj__raftLastApplied: int
    _SyncObj__raftLeader: Node | None
    _SyncObj__raftElectionDeadline: float
    _SyncObj__transferInProgress: bool
    _SyncObj__newAppendEntriesTime: float
    _SyncObj__noopIDx: int | None
    _SyncObj__otherNodes: set[Node]
    _SyncObj__raftNextIndex: dict[Node, int]
    _SyncObj__raftMatchIndex: dict[Node, int]
    _SyncObj__lastResponseTime: dict[Node, float]
    _SyncObj__commandsWaitingCommit: dict[int, list[tuple[int, Callable[[Any, int], None]]]]
    def __init__(
        self,
        selfNode: Node,
        otherNodes: Iterable[Node],
        conf: SyncObjConf | None = None,
        *,
        nodeClass: type[Node] = ...,
        transport: Transport | None = None,
    ) -> None: ...
    @property
    def selfNode(self) -> Node: ...
    @property
    def otherNodes(self) -> set[Node]: ...
    @property
    def raftLastApplied(self) -> int: ...
    @property
    def raftCommitIndex(self) -> int: ...
    @property
    def raftCurrentTerm(self) -> int: ...
    @property
    def conf(self) -> SyncObjConf: ...
    def isNodeConnected(self, node: Node) -> bool: ...
    def transferLeadership(
        self, node: Node | None = None, callback: Callable[[Any, int], None] | None = None
    ) -> None: ...
    def _isLeader(self) -> bool: ...
    def _onTick(self, timeToWait: float = 0.0) -> None: ...
    def _checkCommandsToApply(self) -> None: ...
    def _SyncObj__onBecomeLeader(self) -> None: ...
    def _SyncObj__connectedToAnyone(self) -> bool: ...
    def _SyncObj__generateRaftTimeout(self) -> float: ...
    def _SyncObj__setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None: ...
    def _SyncObj__setState(self, newState: int) -> None: ...
    def _SyncObj__updateClusterConfiguration(self, newNodes: Iterable[Node]) -> None: ...
