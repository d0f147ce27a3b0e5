"""ChannelArbiter: shares, order of the data, steering, waits, resets."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from hw.config import BEAT_BITS, BEAT_BYTES, BURST_BYTES, preset
from hw.memory.arbiter import ChannelArbiter, Client
from hw.memory.arbiter.schedule import Schedule
from hw.memory.channel_port import channel_request, channel_response, channel_written
from hw.memory.port import (
    BURST_BEATS,
    memory_port,
    port_request,
    read_port,
    read_response,
    write_data,
    write_end,
)
from tb.harness import Run, pack, simulate, unpack
from tb.memory.arbiter.model import order_of_grants

CLIENTS = (
    Client(name="core", tag_bits=4, weight=2),
    Client(name="walker", tag_bits=1),
    Client(name="append", tag_bits=3, writes=True),
    Client(name="tables", tag_bits=2, writes=True),
    Client(name="scan", tag_bits=4),
)
PLACE = {client.name: place for place, client in enumerate(CLIENTS)}
NEVER = 65535
READERS = [client for client in CLIENTS if not client.writes]
WRITERS = [client for client in CLIENTS if client.writes]


@dataclass
class Traffic:
    """What clients and channel send."""

    requests: dict[str, list[dict[str, int]]] = field(default_factory=dict)
    words: dict[str, list[dict[str, int]]] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)
    ends: list[dict[str, Any]] = field(default_factory=list)


def traffic(
    rng: random.Random, numbers: Mapping[str, int], sizes: Mapping[str, Sequence[int]], gear: int
) -> Traffic:
    """Random requests, so many of each client with bursts out of ``sizes``; random answers."""
    made = Traffic()
    for client in CLIENTS:
        made.requests[client.name] = [
            {
                "address": BURST_BYTES * rng.randrange(1 << 27),
                "bursts_less_one": rng.choice(sizes.get(client.name, range(1, 17))) - 1,
                "tag": rng.randrange(1 << client.tag_bits),
            }
            for _ in range(numbers.get(client.name, 0))
        ]
        if client.writes:
            bursts = sum(item["bursts_less_one"] + 1 for item in made.requests[client.name])
            made.words[client.name] = [
                {
                    "data": rng.getrandbits(gear * BEAT_BITS),
                    "enable": rng.getrandbits(gear * BEAT_BYTES),
                }
                for _ in range(bursts * BURST_BEATS // gear)
            ]

    def who(clients: list[Client]) -> dict[str, int]:
        client = rng.choice(clients)
        return {"client": PLACE[client.name], "tag": rng.randrange(1 << client.tag_bits)}

    for _ in range(200):
        made.answers.append(
            {
                "data": rng.getrandbits(gear * BEAT_BITS),
                "id": who(READERS),
                "beat": rng.randrange(32),
                "error": rng.randrange(2),
            }
        )
        made.ends.append({"id": who(WRITERS), "error": rng.randrange(2)})
    return made


@cache
def arbiter(gear: int, patience: int) -> ChannelArbiter:
    return ChannelArbiter(CLIENTS, gear=gear, patience=patience)


def play(
    sent: Traffic,
    *,
    gear: int,
    patience: int = NEVER,
    stall: Mapping[str, float] | None = None,
    **options: Any,
) -> tuple[Run, list[dict[str, Any]]]:
    """Play the traffic, check everything but the order of the grants, and return the requests."""
    unit = arbiter(gear, patience)
    ids = unit.id_layout
    request = channel_request(ids.size)
    inputs: dict[str, list[int]] = {}
    outputs: dict[str, int] = {}
    for client in CLIENTS:
        requests = sent.requests[client.name]
        layout = port_request(client.tag_bits)
        inputs[f"{client.name}__request"] = [pack(layout, item) for item in requests]
        if client.writes:
            words = sent.words[client.name]
            inputs[f"{client.name}__data"] = [pack(write_data(gear), word) for word in words]
    inputs["channel__response"] = [
        pack(channel_response(ids.size, gear), answer | {"id": pack(ids, answer["id"])})
        for answer in sent.answers
    ]
    inputs["channel__written"] = [
        pack(channel_written(ids.size), end | {"id": pack(ids, end["id"])}) for end in sent.ends
    ]
    answers: dict[str, list[int]] = {}
    for client in CLIENTS:
        items, key = (sent.ends, "written") if client.writes else (sent.answers, "response")
        layout = (
            write_end(client.tag_bits) if client.writes else read_response(client.tag_bits, gear)
        )
        answers[f"{client.name}__{key}"] = [
            pack(layout, {k: v for k, v in item.items() if k != "id"} | {"tag": item["id"]["tag"]})
            for item in items
            if item["id"]["client"] == PLACE[client.name]
        ]
    outputs = {name: len(items) for name, items in answers.items()}
    outputs["channel__request"] = sum(map(len, sent.requests.values()))
    outputs["channel__write_data"] = sum(map(len, sent.words.values()))
    run = simulate(
        unit,
        name=f"channel_arbiter_{gear}_{patience}",
        inputs=inputs,
        outputs=outputs,
        stall=stall or {},
        **options,
    )
    for name, packed in answers.items():
        assert run.outputs[name] == packed, name

    granted = [unpack(request, item) for item in run.outputs["channel__request"]]
    left = {name: list(items) for name, items in sent.requests.items()}
    to_come = {name: list(items) for name, items in sent.words.items()}
    expected = []
    for item in granted:
        its_id = unpack(ids, item["id"])
        client = CLIENTS[its_id["client"]]
        want = left[client.name].pop(0)
        assert item["write"] == client.writes
        assert want == {k: item[k] for k in ("address", "bursts_less_one")} | {"tag": its_id["tag"]}
        item["client"] = its_id["client"]
        if client.writes:
            count = (want["bursts_less_one"] + 1) * BURST_BEATS // gear
            expected += to_come[client.name][:count]
            del to_come[client.name][:count]
    assert run.outputs["channel__write_data"] == [pack(write_data(gear), word) for word in expected]
    return run, granted


def shares(granted: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Return the share of the bytes of every client, as long as all that send have more."""
    last = {item["client"]: place for place, item in enumerate(granted)}
    together = granted[: min(last.values())]
    total = sum(item["bursts_less_one"] + 1 for item in together)
    its = dict.fromkeys((client.name for client in CLIENTS), 0)
    for item in together:
        its[CLIENTS[item["client"]].name] += item["bursts_less_one"] + 1
    return {name: bursts / total for name, bursts in its.items()}


# --- shares -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gear", "seed"), [(1, 1), (2, 2), (1, 3)])
def test_the_order_of_the_grants(gear: int, seed: int) -> None:
    """Under load, by the model, request by request, whatever the back-pressure."""
    rng = random.Random(seed)
    # Writers stay within the room for their data, so that only the schedule decides.
    sent = traffic(
        rng, {"core": 150, "walker": 120, "scan": 90, "append": 4, "tables": 3}, {}, gear
    )
    _, granted = play(sent, gear=gear, stall={"channel__request": 0.3 * (seed - 1)})
    sizes = [[item["bursts_less_one"] + 1 for item in sent.requests[c.name]] for c in CLIENTS]
    expected = order_of_grants(sizes, [client.quantum for client in CLIENTS])
    assert [item["client"] for item in granted] == expected


@pytest.mark.parametrize("gear", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_bytes_are_shared_as_the_weights_are(gear: int) -> None:
    """Long requests against short ones, readers against writers: 2 to 1 to 1 to 1 to 1."""
    numbers = {"core": 700, "walker": 3000, "append": 400, "tables": 900, "scan": 350}
    sizes = {"core": (8, 16), "walker": (1, 2), "append": (16,), "tables": (2, 8, 3), "scan": (16,)}
    sent = traffic(random.Random(gear), numbers, sizes, gear)
    # A word a cycle bounds the writers; the channel takes requests as it takes their bytes.
    _, granted = play(sent, gear=gear, stall={"channel__request": 0.97})
    for name, share in shares(granted).items():
        weight = CLIENTS[PLACE[name]].weight
        assert share == pytest.approx(weight / 6, rel=0.04), name


@pytest.mark.parametrize("name", ["core", "walker"])
def test_one_client_gets_every_cycle(name: str) -> None:
    sent = traffic(random.Random(5), {name: 500}, {}, 1)
    sent.answers, sent.ends = sent.answers[:1], sent.ends[:1]
    run, _ = play(sent, gear=1)
    # One cycle until the player is valid, one to the register.
    assert run.cycles == 1 + 1 + 500


def test_a_lone_writer_moves_a_word_in_every_cycle() -> None:
    sent = traffic(random.Random(6), {"append": 60}, {"append": (1, 2, 5)}, 1)
    sent.answers, sent.ends = sent.answers[:1], sent.ends[:1]
    run, _ = play(sent, gear=1)
    words = len(sent.words["append"])
    # A cycle for the player, one to the queue of grants, one to the register.
    assert run.first_output_cycle["channel__write_data"] == 1 + 1 + 1
    assert run.cycles == 3 + words


def test_an_idle_turn_costs_no_cycle() -> None:
    sent = traffic(random.Random(7), {"core": 200, "scan": 300, "walker": 10}, {}, 1)
    sent.answers, sent.ends = sent.answers[:1], sent.ends[:1]
    run, _ = play(sent, gear=1)
    assert run.cycles == 2 + 510


# --- everything under back-pressure --------------------------------------------------------------


def everywhere(share: float) -> dict[str, float]:
    """Stalls on all streams but those that must be taken."""
    names = [f"{client.name}__request" for client in CLIENTS]
    names += [f"{client.name}__data" for client in WRITERS]
    names += [f"channel__{n}" for n in ("request", "write_data", "response", "written")]
    return dict.fromkeys(names, share)


@pytest.mark.parametrize(
    ("gear", "patience", "share", "seed", "reset_at"),
    [(1, 20, 0.5, 11, None), (2, 20, 0.9, 12, None), (1, 1, 0.2, 13, 150), (2, NEVER, 0.5, 14, 77)],
)
def test_every_request_word_and_answer_arrives(
    gear: int, patience: int, share: float, seed: int, reset_at: int | None
) -> None:
    numbers = {"core": 90, "walker": 60, "append": 40, "tables": 50, "scan": 70}
    sent = traffic(random.Random(seed), numbers, {}, gear)
    play(
        sent,
        gear=gear,
        patience=patience,
        stall=everywhere(share),
        seed=seed,
        reset_at=reset_at,
    )


# --- waits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [20, NEVER])
def test_the_longest_wait(patience: int) -> None:
    """A weak client against strong ones with many short requests: only patience bounds its wait."""
    numbers = {"core": 2000, "walker": 40, "scan": 2000}
    sent = traffic(random.Random(8), numbers, {"core": (1,), "walker": (1,), "scan": (1,)}, 1)
    sent.answers, sent.ends = sent.answers[:1], sent.ends[:1]
    stall = {"walker__request": 0.97}
    observe = [f"longest_wait__{place}" for place in range(len(CLIENTS))]
    run, _ = play(sent, gear=1, patience=patience, stall=stall, observe=observe)
    longest = run.observed[f"longest_wait__{PLACE['walker']}"]
    assert run.observed[f"longest_wait__{PLACE['append']}"] == 0
    if patience == NEVER:
        # A turn of the core and one of the scan, a burst each.
        assert 40 < longest <= 32 + 16
    else:
        assert longest <= patience + len(CLIENTS) - 1


# --- declarations -------------------------------------------------------------------------------


def test_the_port_of_the_core_is_a_read_port() -> None:
    config = preset("lm")
    assert memory_port(config) == read_port(4)
    unit = ChannelArbiter([Client(name="core", tag_bits=4)])
    assert unit.core.signature == memory_port(config).flip()
    assert unit.id_layout.size == 4 + 1
    names = [counter.name for counter in unit.counters]
    assert names == ["core_requests", "core_bursts", "core_waited"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: Client(name="Core", tag_bits=1),
            "name must be a lower-case identifier, not 'Core'",
        ),
        (lambda: Client(name="if", tag_bits=1), "name must be a lower-case identifier"),
        (lambda: Client(name="a", tag_bits=0), "tag_bits of client 'a' must be 1 to 16, not 0"),
        (lambda: Client(name="a", tag_bits=1, weight=17), "weight of client 'a' must be 1 to 16"),
        (lambda: ChannelArbiter([]), "clients must be 1 to 16, not 0"),
        (lambda: ChannelArbiter(READERS * 2), "must differ, not 'core' twice"),
        (lambda: ChannelArbiter([Client(name="channel", tag_bits=1)]), "must be none of"),
        (lambda: ChannelArbiter(CLIENTS, gear=4), "gear must be 1 or 2, not 4"),
        (lambda: ChannelArbiter(CLIENTS, patience=0), "patience must be 1 to 65535, not 0"),
        (lambda: ChannelArbiter(CLIENTS, write_requests=1), "write_requests must be at least 2"),
        (lambda: Schedule([15], patience=1), "quanta must be at least 16, not 15"),
    ],
)
def test_what_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
