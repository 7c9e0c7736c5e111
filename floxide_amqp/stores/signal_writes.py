"""A run's mailbox as records: which cells and entries the changes of `floxide_amqp.core.signal_changes` stand for."""

from __future__ import annotations

from floxide_amqp.core import signal_changes as c
from floxide_amqp.core.ids import RunId
from floxide_amqp.ports.key_value import ABSENT, Add, Check, Delete, Enter, Leave, Put, Write
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores import signal_keys

MAILBOX = signal_keys.mailbox(RunId("")).name

KEPT_ONCE = 1
"""The version of the cell of a value that nobody has taken: it is written once, and taken away."""


def signal_check(run_id: RunId, condition: c.SignalCondition) -> Check:
    """Return what a condition asks of the store."""
    match condition:
        case c.SignalIsNew(signal_id):
            return Check(signal_keys.signal_mark(run_id, signal_id), ABSENT)
        case c.MailIsThere(signal_id):
            return Check(signal_keys.mail(run_id, signal_id), KEPT_ONCE)
        case c.MailboxIs(version):
            return Check(signal_keys.mailbox(run_id), version)
        case c.WaitersAre(name, version):
            return Check(signal_keys.waiters(run_id, name), version)


def is_about_mail(check: Check) -> bool:
    """Whether a check that failed tells of a value that came, or that another step took."""
    return check.key.name == MAILBOX or check.key.name.startswith(signal_keys.MAIL_PREFIX)


def signal_writes(run_id: RunId, change: c.SignalChange, token: bytes) -> tuple[Write, ...]:
    """Return what a change writes; `token` settles a lost reply of the commit that accepts a signal."""
    match change:
        case c.NoteSignal(signal_id, digest):
            return (Put(signal_keys.signal_mark(run_id, signal_id), codec.encode_signal_mark(digest, token)),)
        case c.KeepMail(mail):
            return (
                Put(signal_keys.mail(run_id, mail.signal_id), b""),
                Put(signal_keys.mailbox(run_id), b""),
                Add(signal_keys.unread(run_id), 1),
                Enter(signal_keys.mail_of(run_id), signal_keys.mail_entry(mail), codec.encode_mail(mail)),
            )
        case c.TakeMail(mail):
            return (
                Delete(signal_keys.mail(run_id, mail.signal_id)),
                Add(signal_keys.unread(run_id), -1),
                Leave(signal_keys.mail_of(run_id), signal_keys.mail_entry(mail)),
            )
        case c.EnterWait(name, since_ms, item_id):
            return (
                Put(signal_keys.waiters(run_id, name), b""),
                Enter(signal_keys.waits_of(run_id), signal_keys.wait_entry(name, since_ms, item_id)),
            )
        case c.LeaveWait(name, since_ms, item_id):
            return (Leave(signal_keys.waits_of(run_id), signal_keys.wait_entry(name, since_ms, item_id)),)
