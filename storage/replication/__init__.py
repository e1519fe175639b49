"""Order and commit log entries, without I/O."""
