"""Refuses Verilog with a constant that no event ever assigns (docs/decisions.md)."""

import re

_LOST = re.compile(r"^ +always @\*\n +(?P<what>\S+(?: \[[\d:]+\])?) = \d+'[bdh][0-9a-fxz]+;", re.M)


class UnsettledError(ValueError):
    """A simulator would leave part of a signal undefined; the message names it."""


def check_settled(text: str) -> None:
    """Look for an ``always @*`` block without inputs in Verilog that Yosys wrote.

    Raises
    ------
    UnsettledError
        There is one. It comes from a signal of which one part is assigned under a condition and
        another part is a plain constant; assign the first part with ``Mux``.
    """
    lost = _LOST.search(text)
    if lost:
        raise UnsettledError(
            f"{lost['what']} is a constant beside parts that are assigned under a condition: "
            "no event starts its assignment; assign those parts with Mux instead"
        )
