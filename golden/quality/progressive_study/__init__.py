"""Study of variants of the progressive format: ``python -m golden.quality.progressive_study``.

The lab's methods decode step by step; here all steps of a layer run at once under masks, which is
several times as fast and gives the same (``tb/golden/quality/test_progressive_study.py``).
"""
