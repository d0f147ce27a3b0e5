"""AxiMaster against the memory of cocotbext-axi, which shares no code with our model of one.

It pauses every channel, and cuts no corner of the protocol; what it does not check (VALID that
waits, page boundaries, WLAST) is left to the model.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hw.memory.axi import AxiMaster
from hw.memory.axi.port import axi_port
from hw.memory.channel_port import channel_request
from hw.memory.port import BURST_BEATS
from tb.harness import build, elaborate, pack, run, unpack
from tb.memory.axi.bench import ID_BITS, ITEM, MEMORY_BYTES
from tb.memory.axi.test_master import Script, random_script


def play(script: Script, folder: Path, *, rough: bool) -> None:
    """Run a script and compare every beat and every end."""
    gear = script.gear
    name = f"axi_master_alone_{gear}"
    text = elaborate(AxiMaster(id_bits=ID_BITS, gear=gear), name).text
    head = text.partition("endmodule")[0]
    ports = re.findall(r"^  (?:input|output) (?:\[\d+:0\] )?(\w+);$", head, re.M)
    assert set(axi_port(4, gear)) < set(ports)
    made = build(text, [], top=name, name=name, public=ports)
    items = []
    for item in script.items:
        fields = unpack(ITEM, item)
        request = fields["request"]
        words = (request["bursts_less_one"] + 1) * BURST_BEATS // gear
        items.append(
            {
                "request": f"{pack(channel_request(ID_BITS), request):x}",
                "fence": fields["fence"],
                "expected": 1 if request["write"] else words,
            }
        )
    (folder / "image.bin").write_bytes(script.image)
    job = {
        "seed": 1,
        "size": MEMORY_BYTES,
        "image": str(folder / "image.bin"),
        "rough": rough,
        "items": items,
        "words": [f"{word:x}" for word in script.words],
        "result": str(folder / "result.json"),
    }
    (folder / "job.json").write_text(json.dumps(job))
    environment = {"AXI_JOB": str(folder / "job.json")}
    run(made, "tb.memory.axi.ram_driver", directory=folder, environment=environment)
    result = json.loads((folder / "result.json").read_text())
    script.compare(*([int(item, 16) for item in result[k]] for k in ("response", "written")))


@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize("gear", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_memory_of_cocotbext_axi(gear: int, rough: bool, tmp_path: Path) -> None:
    play(random_script(20 + gear, gear, phases=6), tmp_path, rough=rough)
