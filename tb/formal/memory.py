"""The memory behind a requester under proof: it keeps docs/contracts.md, section 2, no more."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Signal, Value

from tb.formal.bench import Bench


def answer(
    bench: Bench,
    response: str,
    *,
    tags: int,
    beats: int,
    asked: Value,
    tag: Value,
    size: Value,
    each_once: bool = True,
) -> tuple[Any, Value]:
    """Drive the stream ``response`` with any beat on order in any cycle; return payload and tags.

    Parameters
    ----------
    bench, response
        The requester, and the name of its input stream.
    tags, beats
        How many tags there are, and beats of the longest request.
    asked, tag, size
        A request is sent in this cycle; its tag and its number of beats.
    each_once
        Whether each beat of a request comes once. Else as many come as were asked for, numbered in
        any way: fewer registers, and a stronger claim.

    Returns
    -------
    The payload, whose fields other than ``tag`` and ``beat`` are the caller's to drive, and a bit
    for each tag: whether beats of it are on order.
    """
    m = bench.module
    stream = bench.stream(response)
    its_tag = bench.free("tag", len(stream.payload.tag))
    beat = bench.free("beat", range(beats))
    payload = Signal.like(stream.payload)
    m.d.comb += [payload.tag.eq(its_tag), payload.beat.eq(beat)]
    bench.tie(f"{response}__payload", payload)
    answers = bench.free("answers")
    if each_once:
        due = Array(Signal(beats, name=f"due_{i}") for i in range(tags))
        bench.tie(f"{response}__valid", answers & due[its_tag].bit_select(beat, 1))
        with m.If(stream.valid):
            m.d.sync += due[its_tag].eq(due[its_tag] & ~(1 << beat))
        with m.If(asked):
            m.d.sync += due[tag].eq((1 << size) - 1)
        return payload, Cat(its.any() for its in due)
    on_order = Signal(tags)
    # How many beats come after the next one.
    left = Array(Signal(range(beats), name=f"left_{i}") for i in range(tags))
    bench.tie(f"{response}__valid", answers & on_order.bit_select(its_tag, 1))
    with m.If(stream.valid):
        m.d.sync += left[its_tag].eq(left[its_tag] - 1)
        with m.If(left[its_tag] == 0):
            m.d.sync += on_order.bit_select(its_tag, 1).eq(0)
    with m.If(asked):
        m.d.sync += [left[tag].eq(size - 1), on_order.bit_select(tag, 1).eq(1)]
    return payload, on_order
