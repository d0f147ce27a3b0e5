"""LongBench (Bai et al., ACL 2024, arXiv 2308.14508) with any cache method, on a local checkpoint.

The data are the benchmark's own files, in a directory of the user's. The prompts
(``prompts.json``) and the Chinese punctuation that a score ignores (``punctuation.txt``) are those
of https://github.com/THUDM/LongBench, under ``LICENSE.MIT``; the program is this project's.

In Python::

    from golden.quality.checkpoint import load
    from golden.quality.longbench import Settings, run
    from golden.quality.methods import FP16, KVO
    from golden.quality.points import Point
    points = [Point(method=FP16()), Point(method=KVO())]
    rows = run(load(checkpoint), points, Settings(data=data, datasets=("hotpotqa",))).rows
"""

from golden.quality.longbench.datasets import DATASETS, Dataset
from golden.quality.longbench.lab import Outcome, Settings, run
from golden.quality.longbench.metrics import METRICS, score
from golden.quality.longbench.samples import LongBenchError, Sample, read_samples

__all__ = [
    "DATASETS",
    "METRICS",
    "Dataset",
    "LongBenchError",
    "Outcome",
    "Sample",
    "Settings",
    "read_samples",
    "run",
    "score",
]
