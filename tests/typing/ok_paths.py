"""What the types of paths are."""

from __future__ import annotations

from typing import Never, assert_type

from shop import *

from floxide_amqp import BatchNode, CompositeNode, Path, Workflow, collect, fan_out, gather, repeat

assert_type(charge >> approve, Path[Order, Approved | Rejected])
charge.on_failure >> refund >> notify
assert_type(charge.on_failure >> refund, Path[Order, Refund])
assert_type(charge.on_failure(DeclinedError) >> refund, Path[Order, Refund])
charge.on_failure(DeclinedError, ValueError) >> (refund >> notify, give_up)
assert_type(approve.when(Approved) >> split >> pick >> gather(pack) >> notify, Path[Receipt, str])
assert_type(gather(pack_sequence), Path[Picked, Packed])
assert_type(gather(pack), Path[Picked, Packed])
approve.when(Rejected) >> refund
approve.when(Rejected)
approve.otherwise
assert_type(charge >> (count, spell), Path[Order, int | str])
charge >> (count, spell) >> merge
charge >> (count, spell, count) >> merge
charge >> (count, spell, count, spell, count, spell) >> merge
assert_type(charge >> (count, spell, color), Path[Order, int | str | Color])
assert_type(charge >> fan_out([count, count.named("count_2")]), Path[Order, int])
assert_type(charge.when(is_big) >> count, Path[Order, int])
assert_type(charge.when(lambda r: r.id == "x") >> count, Path[Order, int])
assert_type(approve.when(is_approved), Path[Receipt, Approved])
assert_type(approve.when(Approved, lambda a: a.by == "x"), Path[Receipt, Approved])
color.when(Color.RED) >> paint
color.when(Color.RED, lambda c: c.value == 1) >> paint
color.otherwise >> paint
assert_type(judge >> answer, Path[Receipt, str])
assert_type(judge.when(Rejected) >> refund, Path[Receipt, Refund])
assert_type(judge.when(Rejected) >> gather(tally), Path[Receipt, int])  # a part of the union is fine
assert_type(judge >> gather(tally), Path[Receipt, int])
assert_type(judge.otherwise >> answer, Path[Receipt, str])
assert_type(optional.when(None), Path[str, None])
assert_type(optional.when(int), Path[str, int])
assert_type(Tag[int](42) >> length, Path[int, int])
assert_type(review.when(Rejected) >> rewrite >> repeat(draft, max_iterations=3), Path[str, Never])
assert_type(review.when(Rejected) >> (rewrite >> repeat(draft, max_iterations=3), refund), Path[str, Refund])
assert_type(split >> pick >> collect(Picked), Path[Approved, list[Picked]])
assert_type(split >> pick >> collect(Picked) >> pack, Path[Approved, Packed])
assert_type(BatchNode(pick, max_in_flight=4), BatchNode[str, Picked])
assert_type(BatchNode(pick) >> pack, Path[list[str], Packed])


class Fulfil(Workflow[Approved, Packed, OrderContext]):
    start = split
    edges = (split >> pick >> gather(pack),)


assert_type(CompositeNode(Fulfil), CompositeNode[Approved, Packed])
assert_type(approve.when(Approved) >> CompositeNode(Fulfil) >> notify, Path[Receipt, str])
