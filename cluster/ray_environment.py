"""RayEnvironment: what Ray reads from the environment; set before Ray is imported.

Several of these are read once, at import, hence a module that does not import it. What is known
only later, `admit` and `keep_names_in` set; Ray reads it with the first process that it starts.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from actors.link_options import LinkOptions

# How long Ray's processes wait for a lost GCS before they end themselves: longer than an operator
# is away. Ray counts it in milliseconds, in 32 bits with a sign, and its default is a minute.
HEAD_AWAY_S_MAX = 14 * 86_400

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
    "MALLOC_MMAP_THRESHOLD_": str(128 << 10),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
    # A process imports what a mailbox needs while Ray still gets to know it.
    "RAY_preload_python_modules": "actors.shard_actor,cluster.logs",
    # Actors bound their memory themselves; Ray would kill them by the machine's load.
    "RAY_memory_monitor_refresh_ms": "0",
    # A node whose raylet was killed is dead after 5 s, one that is cut off after 30 s; a busy one
    # must fail to answer five times in a row, each time for 5 s. Mail does not wait for this.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_raylet_liveness_self_check_interval_ms": "5000",
    # The GCS keeps nodes, names and actors on disk, so that its process may be started again.
    "RAY_gcs_storage": "rocksdb",
    "RAY_gcs_rpc_server_reconnect_timeout_s": str(HEAD_AWAY_S_MAX),
    # It remembers the dead for people who ask; actors at rest are dead actors to it.
    "RAY_maximum_gcs_destroyed_actor_cached_count": "1000",
    "RAY_maximum_gcs_dead_node_cached_count": "100",
    # Lines of killed workers on the operator's terminal help nobody: status says it.
    "RAY_LOG_TO_STDERR": "0",
    "RAY_ROTATION_MAX_BYTES": str(8 << 20),
    "RAY_ROTATION_BACKUP_COUNT": "1",
}
GCS_STORE = "RAY_gcs_storage_path"
FOREIGN = (
    "RAY_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_REDIS_ADDRESS",
    "RAY_TMPDIR",
    GCS_STORE,
)


def prepare() -> None:
    """Set the environment of this process and of all that it starts."""
    for name in FOREIGN:
        os.environ.pop(name, None)
    os.environ.update(FIXED)


def admit(token_file: Path) -> None:
    """Have every process show the token of that file to the others, and ask it of them."""
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file)


def keep_names_in(directory: Path) -> None:
    """Have a GCS that this process starts keep its tables below `directory`."""
    os.environ[GCS_STORE] = str(directory)


def encrypt(links: LinkOptions) -> None:
    """Have Ray's processes speak TLS with each other if ours do, with the same certificates.

    Before Ray is imported, which is when it reads this; the files may be made later.
    """
    if not is_loopback(links.host):
        # Ray's switch for laptops, which would make every node call itself 127.0.0.1.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
    os.environ["RAY_USE_TLS"] = str(int(links.encrypts))
    if links.encrypts:
        os.environ["RAY_TLS_CA_CERT"] = links.ca
        os.environ["RAY_TLS_SERVER_CERT"] = links.certificate
        os.environ["RAY_TLS_SERVER_KEY"] = links.key


def is_loopback(address: str) -> bool:
    """Say whether only this machine reaches an address."""
    return ipaddress.ip_address(address).is_loopback
