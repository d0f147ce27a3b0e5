"""cocotb's Verilator runner with fewer public signals and the chosen Verilator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cocotb_tools.runner import Verilator as CocotbVerilator

from tb.harness.files import REPOSITORY
from tb.harness.runtime_library import build_commands
from tb.harness.toolchain import Verilator


class VerilatorRunner(CocotbVerilator):
    """Runner that makes only the signals named in a control file visible to Python.

    cocotb's runner makes every signal of the design readable and writable, which costs most of the
    simulation speed and of the compile time.

    Parameters
    ----------
    chosen
        The Verilator to build with.
    make_settings
        ``NAME=value`` settings for make, on top of those the Verilator itself needs.
    waves
        Whether to build or run with an FST recorder; the ambient ``WAVES`` variable, which cocotb's
        runner would obey, is not looked at.
    objects
        Compiled files of Verilator's run-time library to start from.
    """

    def __init__(
        self,
        chosen: Verilator,
        *,
        waves: bool,
        make_settings: Sequence[str] = (),
        objects: Sequence[Path] = (),
    ) -> None:
        super().__init__()
        self._waves = waves
        self._chosen = chosen
        self._make_settings = [*chosen.make_overrides, *make_settings]
        self._objects = objects

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(self._chosen.executable)

    def _set_env_common(self) -> None:
        super()._set_env_common()
        self.env = self._chosen.environment(self.env)
        paths = [str(REPOSITORY), *self.env["PYTHONPATH"].split(":")]
        self.env["PYTHONPATH"] = ":".join(dict.fromkeys(path for path in paths if path))

    def _test_command(self) -> list[list[str]]:
        self.waves, self.gui = self._waves, False
        return super()._test_command()

    def _build_command(self) -> list[list[str]]:
        self.waves = self._waves
        verilate, make = super()._build_command()
        verilate.remove("--public-flat-rw")
        if self.waves:
            verilate[verilate.index("--trace")] = "--trace-fst"
        make += self._make_settings
        return build_commands(verilate, make, self._objects, Path(self.build_dir))
