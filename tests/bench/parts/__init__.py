"""Parts: what the benchmark measures, one module and one function `measure(stage)` each."""
