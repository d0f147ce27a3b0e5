"""The core of the tests here: small, with every mode, so that one build serves all of them."""

from dataclasses import replace

from hw.config import preset

SMALL = replace(
    preset("tiny"),
    name="tiny-slots",
    memory_bytes=1 << 18,
    slots=32,
    slot_sinks=2,
    slot_recent=4,
    slot_decay=243,
    slot_caches=3,
)
