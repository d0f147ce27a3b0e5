"""The quality lab: cache methods in float on the trained model, their traffic counted exactly.

`interface.CacheMethod` is what a method is, ``methods`` has one per paper. In Python::

    from golden.quality import Prompt, make_batch
    from golden.quality.methods import KVO
    batch = make_batch("recall", held_out_tokens(), length=2048, sequences=4, seed=1)
    figures = Prompt(load_model(), batch).evaluate(KVO(budget=192))
    figures.scores, figures.traffic.share
"""

from golden.quality.decode import Traffic, decode
from golden.quality.evaluate import Figures, Prompt, evaluate
from golden.quality.interface import CacheMethod, CacheState, Prefill, Reading
from golden.quality.tasks import TASKS, Batch, make_batch

__all__ = [
    "TASKS",
    "Batch",
    "CacheMethod",
    "CacheState",
    "Figures",
    "Prefill",
    "Prompt",
    "Reading",
    "Traffic",
    "decode",
    "evaluate",
    "make_batch",
]
