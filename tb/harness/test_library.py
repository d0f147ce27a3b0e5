"""Compiled modules that simulations share; `tb.test_shared_module` has them at work."""

from __future__ import annotations

import pytest

from tb.harness import BuildError, build
from tb.harness.library import compile_library
from tb.harness.toolchain import verilator


def test_a_module_that_does_not_compile_is_named() -> None:
    design = "module bench(input clk, output done); assign done = clk; broken part(); endmodule"
    shared = {"broken": "module broken(); syntax error; endmodule\n"}
    with pytest.raises(BuildError, match=r"(?s)the build of broken failed: .*syntax error"):
        build(design, [], top="bench", name="broken_part", public=["clk", "done"], shared=shared)


def test_flags_are_part_of_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sets of flags are two libraries, the same set is one."""
    made = []

    def compiled(*arguments: object) -> None:
        made.append(arguments)
        raise RuntimeError("stopped")

    monkeypatch.setattr("tb.harness.library.run_tools", compiled)
    directories = set()
    for flags in (["-a"], ["-b"], ["-a"]):
        with pytest.raises(RuntimeError, match="stopped") as caught:
            compile_library(verilator(), "module m; endmodule", "m", flags=flags, make_settings=[])
        directories.add(str(caught.value).partition("end of ")[2])
    assert (len(made), len(directories)) == (3, 2)
