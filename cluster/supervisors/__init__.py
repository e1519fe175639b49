"""Supervisors: what keeps the copies and their primaries, decided without I/O."""
