"""What a child workflow does not take."""

from __future__ import annotations

from shop import *

from floxide_amqp import ChildWorkflow, OnClose, Workflow, gather


class Fulfil(Workflow[Approved, Packed, OrderContext]):
    start = split
    edges = (split >> pick >> gather(pack),)


def of_text(text: str) -> OrderContext:
    return OrderContext(customer=text)


charge >> ChildWorkflow(Fulfil)  # expect: a child that takes something else
ChildWorkflow(Fulfil) >> length  # expect: a child that returns something else
ChildWorkflow(Fulfil, wait=False) >> notify  # expect: the id of a child instead of its output
ChildWorkflow(charge)  # expect: a node instead of a child
ChildWorkflow(Fulfil, on_close="cancel")  # expect: a word for what becomes of a child
ChildWorkflow(Fulfil, timeout="soon")  # expect: a child's time that is none
ChildWorkflow(Fulfil, context=of_text)  # expect: a child's state made of something else
OnClose.KEEP  # expect: an end of children there is not
