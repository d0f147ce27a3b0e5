"""No combinational path leads from an input of the core to an output: its ports time alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from hw.config import preset
from hw.cores.attention_core import AttentionCore
from hw.streams import StreamRegister

_SCRIPT = """
read_rtlil {source}
proc -norom
memory_collect
flatten
opt_clean
cd top
tee -o {found} select -list o:* %cie* i:* %i
"""
#: Yosys ends the process on an error, so it gets one of its own.
_RUN = (
    "import sys; from pyosys import libyosys as y; y.run_pass('script ' + sys.argv[1], y.Design())"
)


def inputs_seen_from_outputs(component: wiring.Component, folder: Path) -> list[str]:
    """Return the inputs that have a combinational path to some output."""
    source, script, found = (folder / f"paths.{end}" for end in ("il", "ys", "txt"))
    source.write_text(rtlil.convert(component, name="top", emit_src=False))
    script.write_text(_SCRIPT.format(source=source, found=found))
    subprocess.run([sys.executable, "-c", _RUN, str(script)], check=True, capture_output=True)
    return sorted(found.read_text().split())


def test_paths_through_a_component_are_found(tmp_path: Path) -> None:
    assert inputs_seen_from_outputs(StreamRegister(8), tmp_path) == ["top/output__ready"]


def test_the_core_has_none(tmp_path: Path) -> None:
    assert inputs_seen_from_outputs(AttentionCore(preset("tiny")), tmp_path) == []
