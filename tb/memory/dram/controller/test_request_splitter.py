"""RequestSplitter against AddressMap: the bursts of the visits are those of the request."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.memory.dram import AddressMap, load_standard, standard_names
from hw.memory.dram.controller import ControllerConfig
from hw.memory.dram.controller.payloads import place_step
from hw.memory.dram.controller.request_splitter import RequestSplitter, most_bursts
from hw.memory.port import ADDRESS_BITS

BURST = 32
REQUESTS = 60


def split(config: ControllerConfig, requests: list[dict[str, int]], seed: int) -> list[list[Any]]:
    """Return the visits of each request as (bank, job fields, tag fields)."""
    splitter = RequestSplitter(config)
    choose = random.Random(seed)
    visits: list[tuple[int, dict[str, int]]] = []

    async def feed(ctx: Any) -> None:
        for number, request in enumerate(requests):
            payload = {
                "request": {
                    "address": request["address"],
                    "bursts_less_one": request["bursts"] - 1,
                    "id": number % 64,
                    "write": 0,
                },
                "place": request["place"],
                "refused": request["refused"],
            }
            ctx.set(splitter.request.payload, payload)
            ctx.set(splitter.request.valid, 1)
            await ctx.tick().until(splitter.request.ready)
            ctx.set(splitter.request.valid, 0)
            if choose.random() < 0.3:
                await ctx.tick()

    async def collect(ctx: Any) -> None:
        idle = 0
        while idle < 20:
            idle = 0 if ctx.get(splitter.visit.valid) else idle + 1
            ctx.set(splitter.visit.ready, choose.random() < 0.7)
            if ctx.get(splitter.visit.valid & splitter.visit.ready):
                payload = ctx.get(splitter.visit.payload)
                job, tag = payload.job, payload.job.tag
                fields = {name: job[name] for name in ("row", "column", "bursts_less_one", "place")}
                fields |= {name: tag[name] for name in ("beats_less_one", "second_half", "refused")}
                visits.append((tag.id, fields | {"bank": payload.bank}))
            await ctx.tick()

    simulator = Simulator(splitter)
    simulator.add_clock(1e-9)
    simulator.add_testbench(feed)
    simulator.add_testbench(collect)
    simulator.run()
    # Requests are split in order.
    found: list[list[Any]] = []
    for request_id, fields in visits:
        if not found or (len(found) - 1) % 64 != request_id:
            found.append([])
        assert (len(found) - 1) % 64 == request_id
        found[-1].append(fields)
    return found


@pytest.mark.parametrize("visit_bursts", [4, 2])
@pytest.mark.parametrize("name", standard_names())
def test_visits(name: str, visit_bursts: int, seed: int) -> None:
    standard = load_standard(name)
    config = ControllerConfig(standard=standard, visit_bursts=visit_bursts)
    address_map = AddressMap(standard, visit_bursts)
    choose = random.Random(seed)
    size = min(standard.bytes, 1 << ADDRESS_BITS)
    requests = []
    for _ in range(REQUESTS):
        bursts = choose.choice((1, 2, choose.randrange(1, 17), 16))
        address = choose.randrange(size // BURST - bursts + 1) * BURST
        place = choose.randrange(config.write_buffer - most_bursts(config))
        refused = choose.randrange(2)
        requests.append({"address": address, "bursts": bursts, "place": place, "refused": refused})
    found = split(config, requests, seed)
    assert len(found) == len(requests)
    for request, visits in zip(requests, found, strict=True):
        first = request["address"] // standard.burst_bytes
        last = (request["address"] + request["bursts"] * BURST - 1) // standard.burst_bytes
        wanted = {
            request["place"] + i: address_map.locate((first + i) * standard.burst_bytes)
            for i in range(last - first + 1)
        }
        for visit in visits:
            assert visit["refused"] == request["refused"]
            assert visit["beats_less_one"] == 2 * request["bursts"] - 1
            assert visit["second_half"] == request["address"] % standard.burst_bytes // BURST
            for i in range(visit["bursts_less_one"] + 1):
                location = wanted.pop(visit["place"] + i * place_step(config))
                bank = location.bank_group * standard.banks_per_group + location.bank
                assert (visit["bank"], visit["row"]) == (bank, location.row)
                assert visit["column"] + i == location.column
        assert not wanted
