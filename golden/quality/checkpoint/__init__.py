"""Cache methods on a Hugging Face Llama checkpoint in a local directory; needs ``transformers``.

In Python::

    from golden.quality.checkpoint import Settings, load, run
    from golden.quality.methods import FP16, KVO
    from golden.quality.points import Point
    rows = run(load(directory), [Point(method=FP16()), Point(method=KVO())], Settings())
"""

from golden.quality.checkpoint.lab import Settings, default_points, run
from golden.quality.checkpoint.load import Checkpoint, load
from golden.quality.checkpoint.session import Continuation, Prefilled
from golden.quality.checkpoint.tasks import TASKS, Sample, Turn, make_samples

__all__ = [
    "TASKS",
    "Checkpoint",
    "Continuation",
    "Prefilled",
    "Sample",
    "Settings",
    "Turn",
    "default_points",
    "load",
    "make_samples",
    "run",
]
