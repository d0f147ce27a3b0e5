"""Packed payload integers from and to the fields of an Amaranth shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from amaranth.hdl import Shape, ShapeLike, Value
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout, Layout

Fields: TypeAlias = int | Mapping[str, "Fields"] | Sequence["Fields"]
"""A number, or the fields of a structure by name, or the elements of an array."""


def pack(shape: ShapeLike, value: Fields) -> int:
    """Return ``value`` as the unsigned integer that a signal of ``shape`` holds.

    Parameters
    ----------
    shape
        A width, ``signed(n)``, or a structure or array layout.
    value
        A number for a plain shape, a mapping with every field for a structure, a sequence with
        every element for an array.

    Raises
    ------
    ValueError
        A number does not fit, or a field is missing or unknown.
    """
    if isinstance(shape, Layout):
        parts = dict(enumerate(value)) if isinstance(value, Sequence) else value
        names = [key for key, _ in shape]
        if not isinstance(parts, Mapping) or set(parts) != set(names):
            raise ValueError(f"expected the fields {names}, not {value!r}")
        return sum(pack(field.shape, parts[key]) << field.offset for key, field in shape)
    if isinstance(value, Mapping | Sequence):
        raise ValueError(f"expected a number, not {value!r}")
    plain = Shape.cast(shape)
    low = -(1 << plain.width) // 2 if plain.signed else 0
    if not low <= value < low + (1 << plain.width):
        raise ValueError(f"{value} does not fit in {plain!r}")
    return int(value) & ((1 << plain.width) - 1)


def unpack(shape: ShapeLike, bits: int) -> Any:
    """Return the fields that the unsigned integer ``bits`` holds: the inverse of `pack`."""
    if isinstance(shape, Layout):
        found = {
            key: unpack(field.shape, (bits >> field.offset) & ((1 << field.width) - 1))
            for key, field in shape
        }
        return list(found.values()) if isinstance(shape, ArrayLayout) else found
    plain = Shape.cast(shape)
    negative = plain.signed and plain.width > 0 and bits >> (plain.width - 1)
    return bits - (1 << plain.width) if negative else bits


def payload_widths(component: wiring.Component) -> dict[str, int]:
    """Return the payload bits of every stream of ``component``; other ports are left out."""
    return {
        name: len(Value.cast(member.signature.create().payload))
        for name, member in component.signature.members.items()
        if member.is_signature
    }
