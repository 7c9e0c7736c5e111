"""Packers that are kept from one value to the next."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgpack
import pytest

from floxide_amqp.stores.packing import KEPT_BYTES, KeptPacker


def test_threads_that_pack_at_the_same_time_do_not_disturb_each_other() -> None:
    def other(value: object) -> object:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(packer.pack, ["of another thread"]).result()

    packer = KeptPacker(default=other)
    packed = packer.pack(["before", object(), "after"])
    assert msgpack.unpackb(packed) == ["before", msgpack.packb(["of another thread"]), "after"]


@pytest.mark.parametrize("size", [KEPT_BYTES + 1, 10])
def test_a_packer_packs_the_same_after_whatever_went_before(size: int) -> None:
    packer = KeptPacker(strict_types=True)
    assert packer.pack(bytes(size)) == msgpack.packb(bytes(size))
    with pytest.raises(TypeError):
        packer.pack(["begun", object()])
    assert packer.pack(["small"]) == msgpack.packb(["small"])
