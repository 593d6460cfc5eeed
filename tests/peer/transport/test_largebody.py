"""The memory of large bodies: it is reused when, and only when, nobody can see it any more."""

from peer.transport.largebody import BufferPool

MIB = 2**20


def test_a_buffer_comes_back_when_its_last_view_is_gone() -> None:
    pool = BufferPool()
    first = pool.take(4_000_000)
    assert (len(first), first.readonly, first.format, first.ndim) == (4_000_000, False, "B", 1)
    first[0] = 7
    part = first[10:20]
    del first
    assert pool.kept_bytes == 0  # a slice still looks into it
    second = pool.take(4_000_000)
    second[10:20] = bytes(10)
    part[:] = b"0123456789"
    assert bytes(second[10:20]) == bytes(10)
    del part
    assert pool.kept_bytes >= 4_000_000
    third = pool.take(3_999_999)  # nearly the same size: shares
    assert pool.kept_bytes == 0
    assert third[0] == 7
    assert len(third) == 3_999_999
    del second, third
    assert pool.kept_bytes >= 8_000_000


def test_what_is_kept_is_bounded() -> None:
    pool = BufferPool(keep_bytes=3 * MIB)
    bodies = [pool.take(MIB) for _ in range(5)]
    bodies.insert(2, pool.take(4 * MIB))
    bodies.clear()
    assert 0 < pool.kept_bytes <= 3 * MIB


def test_other_sizes_do_not_starve() -> None:
    """When what is kept has the wrong sizes, it makes room for the sizes now in use."""
    pool = BufferPool(keep_bytes=3 * MIB)
    old = [pool.take(MIB) for _ in range(3)]
    old.clear()
    new = pool.take(2 * MIB)
    del new
    assert pool.kept_bytes == 3 * MIB
    again = pool.take(2 * MIB)
    assert pool.kept_bytes == MIB
    del again
