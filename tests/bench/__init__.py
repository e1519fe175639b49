"""Benchmark: Heliograph beside Postfix and Dovecot, the same load, alternating in one run.

`run.py` is the program; docs/benchmarks.md says what every figure means. A system under test
is one class (`system.py`: `heliograph.py`, `rival.py`); everything that measures is common.
"""
