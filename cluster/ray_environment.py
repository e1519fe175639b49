"""RayEnvironment: what Ray reads from the environment; set before Ray is imported.

Several of these are read once, at import, hence a module that does not import it.
"""

from __future__ import annotations

import os
import secrets

FIXED = {
    # Said explicitly, so that Ray neither looks for a token in the home directory nor makes one.
    "RAY_AUTH_MODE": "token",
    # Ray's switch for laptops: a node of one machine uses the loopback address, and nothing else
    # listens on a network.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Mail is what this process is for; Ray's default is 15.
    "RAY_worker_niceness": "0",
    # Fewer threads and less memory for each of many small processes.
    "RAY_worker_num_grpc_internal_threads": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    # Without these, glibc raises both with whatever is freed, to 32 and 64 MiB, and keeps that
    # much: an actor that has indexed mail would never be as small again. RocksDB's blocks of a
    # memtable and Tantivy's are at least as large as the first.
    "MALLOC_MMAP_THRESHOLD_": str(512 << 10),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
    # A process that waits for its actor has the imports behind it.
    "RAY_preload_python_modules": "actors.shard_actor,cluster.logs",
    # Actors bound their memory themselves; Ray would kill them by the machine's load.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_raylet_liveness_self_check_interval_ms": "5000",
    # Lines of killed workers on the operator's terminal help nobody: status says it.
    "RAY_LOG_TO_STDERR": "0",
    "RAY_ROTATION_MAX_BYTES": str(8 << 20),
    "RAY_ROTATION_BACKUP_COUNT": "1",
}
FOREIGN = ("RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_TMPDIR")


def prepare() -> None:
    """Set the environment of this process and of all that it starts; a new token every time."""
    for name in FOREIGN:
        os.environ.pop(name, None)
    os.environ.update(FIXED)
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
