"""The streams among a component's ports."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from amaranth.hdl import ShapeLike
from amaranth.lib import wiring

_STREAM_MEMBERS = {"payload", "valid", "ready"}


@dataclass(frozen=True)
class StreamPort:
    """One stream: its emitted name, ``input`` or ``output``, and the shape of its payload."""

    name: str
    direction: str
    shape: ShapeLike

    @property
    def kind(self) -> str:
        """Its name without numbers: the streams of an array have the same payload."""
        return re.sub(r"__\d+", "", self.name)


def find_streams(signature: wiring.Signature, prefix: str = "") -> Iterator[StreamPort]:
    """Every stream of ``signature``, those of nested interfaces and of arrays included."""
    for key, member in signature.members.items():
        if member.is_port:
            continue
        inner = member.signature
        for numbers in product(*map(range, member.dimensions)):
            name = "__".join([prefix + key, *map(str, numbers)])
            if set(inner.members) == _STREAM_MEMBERS:
                payload = inner.members["payload"]
                direction = "output" if payload.flow == wiring.Out else "input"
                yield StreamPort(name, direction, payload.shape)
            else:
                yield from find_streams(inner, f"{name}__")
