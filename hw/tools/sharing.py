"""Collects the modules that a design shares, so that each of them is emitted once."""

from collections.abc import Callable

from amaranth.lib import wiring


class SharingPlatform:
    """A platform to elaborate for: `hw.shared_module.SharedModule` tells it what it stands for."""

    def __init__(self) -> None:
        #: The parts by the name of their module, in the order in which they were met.
        self.shared: dict[str, wiring.Component] = {}

    def share(self, name: str, part: wiring.Component) -> None:
        """Note that the design has instances of module ``name``.

        Raises
        ------
        ValueError
            There is another part of that name.
        """
        if self.shared.setdefault(name, part) is not part:
            raise ValueError(f"two different parts are shared as module {name}")


def convert_all(
    component: wiring.Component,
    name: str,
    platform: SharingPlatform,
    convert: Callable[[wiring.Component, str], str],
) -> dict[str, str]:
    """Return the text of ``component`` and of every module that it shares, by module name.

    Parameters
    ----------
    name
        Of the top module.
    platform
        Collects the shared modules; a new one for each call.
    convert
        Elaborates a component for ``platform`` and returns the text of the module so named.
    """
    texts = {name: convert(component, name)}
    while waiting := [shared for shared in platform.shared if shared not in texts]:
        for shared in waiting:
            texts[shared] = convert(platform.shared[shared], shared)
    return texts
