"""Every error this package raises.

    FloxideError
      DefinitionError           fix your code: a workflow, node, context or payload type is wrong
      ConfigurationError        fix the deployment: a URL, a missing extra, a missing resource, a version
      RunError                  about one run
        RunNotFoundError  RunConflictError  RunFailedError  RunCancelledError  RunTimeoutError
        NotStartedError  AlreadyCompletedError  InvalidRunStateError
      NodeError                 raised inside a step
        NodeTimeoutError  IterationLimitError  ResourceNotFoundError  NodeCancelledError
      CodecError                bytes or values that cannot be encoded or decoded
      BrokerError
        BrokerUnavailableError  BrokerConnectionLostError  PublishUnconfirmedError  TopologyClashError
      StoreError
        StoreUnavailableError  CommitOutcomeUnknownError

Facts are keyword-only attributes and the class writes the sentence: what failed, with which ids, what to do next.
`retryable` says whether doing the same again later may succeed.
"""

from __future__ import annotations

from typing import Any, ClassVar


class FloxideError(Exception):
    """Root of the tree."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        for name, value in facts.items():
            setattr(self, name, value)


class DefinitionError(FloxideError):
    """A workflow, a node, a context or a payload type is defined wrongly; the message names the cure."""


class ConfigurationError(FloxideError):
    """The deployment is wrong: a URL, a missing extra, a missing resource; the message names the cure."""


class RunError(FloxideError):
    """Something about one run."""


class NodeError(FloxideError):
    """Something inside one step."""


class CodecError(FloxideError):
    """Bytes or values that cannot be encoded or decoded."""


class BrokerError(FloxideError):
    """The message broker refused or failed."""


class StoreError(FloxideError):
    """The store refused or failed; nothing of the call was applied."""
