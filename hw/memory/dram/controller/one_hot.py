"""Values chosen by the only bit that is set."""

from collections.abc import Iterable
from functools import reduce
from operator import or_

from amaranth.hdl import Mux, Value, ValueLike


def select(one_hot: Value, values: Iterable[ValueLike]) -> Value:
    """Return the value whose bit is set; 0 without one."""
    chosen = (Mux(bit, Value.cast(value), 0) for bit, value in zip(one_hot, values, strict=True))
    return reduce(or_, chosen)


def encode(one_hot: Value) -> Value:
    """Return the number of the only bit that is set; 0 without one."""
    return select(one_hot, range(len(one_hot)))
