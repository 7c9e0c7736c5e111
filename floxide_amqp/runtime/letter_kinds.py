"""The kinds of letters there are. A new one is a class with a name and a `deliver`, and a line here."""

from __future__ import annotations

from typing import Final

from floxide_amqp.runtime.child_letters import (
    CancelChild,
    ChildEnded,
    ChildFollows,
    ChildrenFollow,
    CloseChildren,
    StartChild,
)
from floxide_amqp.runtime.letters import LetterKind
from floxide_amqp.runtime.limit_letters import KeyGranted, ReleaseKey, ReleaseKeys, WaitForKey
from floxide_amqp.runtime.signal_letters import SendSignal
from floxide_amqp.runtime.signal_waiters import OfferSignal

KINDS: Final[tuple[LetterKind, ...]] = (
    StartChild(),
    ChildEnded(),
    CloseChildren(),
    CancelChild(),
    ChildrenFollow(),
    ChildFollows(),
    SendSignal(),
    OfferSignal(),
    WaitForKey(),
    KeyGranted(),
    ReleaseKey(),
    ReleaseKeys(),
)
"""Every kind of letter this release can deliver; what another one wrote waits for a worker of that release."""
