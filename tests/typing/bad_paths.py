"""Mistakes in paths, each on a line that both type checkers must refuse."""

from __future__ import annotations

from shop import *

from floxide_amqp import BatchNode, CompositeNode, Workflow, collect, fan_out, gather, repeat

charge >> pick  # expect: an edge to a node that takes something else
approve.when(Approved) >> refund  # expect: a branch to a node that takes another variant
approve.when(int) >> length  # expect: a variant the next node does not take
pick >> gather(notify)  # expect: gather of a node that takes no list
split >> gather(pack)  # expect: gather of other elements
charge >> (count, pick)  # expect: one wrong branch of two
charge >> (count, spell, pick)  # expect: one wrong branch of three
charge >> [count, pick]  # expect: a list instead of a tuple
charge >> [count, spell]  # expect: a list, even of fitting branches
charge >> fan_out([count, pick])  # expect: one wrong generated branch
charge >> (count, spell) >> length  # expect: the union of two branches into a node that takes one
charge.when(lambda r: r.nope)  # expect: a predicate about an attribute that is not there
approve.when(Approved, lambda a: a.why == "")  # expect: a guard about another variant
color.when(Color.RED) >> length  # expect: an enum into a node that takes text
charge.when(3)  # expect: a condition that is neither type, member nor predicate
charge.on_failure >> notify  # expect: a fallback that does not take the failed node's input
charge.on_failure(Order) >> refund  # expect: not an exception class
charge.on_failure(DeclinedError) >> pick  # expect: a typed fallback that takes something else
review.when(Rejected) >> repeat(draft, max_iterations=3)  # expect: back to a node that takes something else
repeat(draft)  # expect: a loop without a bound
charge >> "pick"  # expect: a name instead of a node
Tag[int](42) >> count  # expect: a generic node's output into a wrong node
length >> Tag[str]("x")  # expect: a generic node of other arguments
Tag[int]("x")  # expect: a value that is not of the type argument
Scale("x")  # expect: a field of another type
split >> pick >> collect(Order)  # expect: collecting something else
BatchNode(pick) >> gather(notify)  # expect: gather of a node that takes no list, behind a batch
BatchNode(charge >> approve)  # expect: a path instead of a node
BatchNode(pick, max_in_flight="4")  # expect: a bound that is no number


class Fulfil(Workflow[Approved, Packed, OrderContext]):
    start = split
    edges = (split >> pick >> gather(pack),)


charge >> CompositeNode(Fulfil)  # expect: a workflow that takes something else
CompositeNode(Fulfil) >> length  # expect: a workflow that returns something else
CompositeNode(charge)  # expect: a node instead of a workflow
