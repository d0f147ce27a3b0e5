"""The example wrapper around the freshly emitted core passes every check of Verilator's lint."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from hw.config import preset
from hw.cores.attention_core import AttentionCore
from hw.tools.package import package
from hw.tools.ports import find_streams
from hw.tools.verilog import emit
from tb.harness.files import REPOSITORY
from tb.tools.lint import lint

WRAPPER = REPOSITORY / "docs" / "examples" / "attention_wrapper.sv"
PRESETS = ["tiny", pytest.param("lm", marks=pytest.mark.slow)]


@cache
def emitted(name: str) -> dict[str, str]:
    return emit(AttentionCore(preset(name)), "attention_core")


def lint_wrapper(files: dict[str, str], wrapper: str, folder: Path) -> str:
    sources = files | {WRAPPER.name: wrapper}
    names = ("attention_core.vlt", "attention_core_pkg.sv", "attention_core.v", WRAPPER.name)
    for name in names:
        (folder / name).write_text(sources[name])
    return lint([folder / name for name in names], WRAPPER.stem)


def shell(files: dict[str, str]) -> dict[str, str]:
    """Return ``files`` with a core that has ports and nothing else: quick to lint."""
    top = files["attention_core.v"].partition("\nendmodule")[0]
    header = re.search(r"^module attention_core\([^;]*;\n", top, re.M)
    assert header
    ports = re.findall(r"^  (?:input|output) .*\n", top, re.M)
    waiver = 'lint_off -rule UNDRIVEN -file "*attention_core.v"\n'
    return files | {
        "attention_core.v": header[0] + "".join(ports) + "endmodule\n",
        "attention_core.vlt": files["attention_core.vlt"] + waiver,
    }


@pytest.mark.parametrize("name", PRESETS)
def test_the_wrapper_passes_lint(name: str, tmp_path: Path) -> None:
    assert lint_wrapper(emitted(name), WRAPPER.read_text(), tmp_path) == ""


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("input  job_context_t ", "input  job_layer_t ", "WIDTHEXPAND"),
        ("output memory_request_tag_t ", "output logic ", "WIDTHTRUNC"),
        ("(job),", "(job[0]),", "WIDTHEXPAND"),
        (".clk                       (clk),\n", "", "PINMISSING"),
        ("layer:         job_layer,\n", "", "layer"),
        ("tag:   response_tag", "tag:   response_data", "WIDTHTRUNC"),
    ],
)
def test_a_wrong_wrapper_is_found(right: str, wrong: str, message: str, tmp_path: Path) -> None:
    text = WRAPPER.read_text()
    assert text.count(right) == 1
    files = shell(emitted("tiny"))
    assert lint_wrapper(files, text, tmp_path) == ""
    assert message in lint_wrapper(files, text.replace(right, wrong), tmp_path)


def test_a_package_of_another_core_is_found(tmp_path: Path) -> None:
    """The structs are as wide as the ports of their core, and of no other."""
    config = preset("lm")
    streams = find_streams(AttentionCore(config).signature)
    text = package(config, streams, [], "attention_core_pkg")
    mixed = shell(emitted("tiny")) | {"attention_core_pkg.sv": text}
    assert "WIDTH" in lint_wrapper(mixed, WRAPPER.read_text(), tmp_path)
