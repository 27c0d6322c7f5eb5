class FAIL_REASON:
    SUCCESS: int
    DISCARDED: int
    REQUEST_DENIED: int

class SyncObjConf:
    appendEntriesPeriod: float
    leaderFallbackTimeout: float
    raftMinTimeout: float
    def __init__(self, **kwargs: object) -> None: ...
    def validate(self) -> None: ...
