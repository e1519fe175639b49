"""Elastic packing: a mailbox has a process of its own up to the limit, then mailboxes share."""

from pathlib import Path

from tests.cluster.post import send, subjects
from tests.e2e.cluster_fixture import Cluster, running

LIMIT = 3
PASSWORD = "correct horse battery"


def mailbox_processes(cluster: Cluster) -> set[int]:
    """The processes of mailbox actors: those that status names, which are those that run."""
    status = cluster.wait_serving()
    named = {shard["pid"] for shard in status["shards"] if shard["kind"] == "mailbox"}
    directory = {shard["pid"] for shard in status["shards"] if shard["kind"] == "directory"}
    assert named == set(cluster.actors("ShardActor"))
    assert directory == set(cluster.actors("DirectoryActor"))
    return named


def test_processes_at_one_at_the_limit_and_one_past_it(tmp_path: Path) -> None:
    settings = {"HELIO_MAILBOX_ACTORS_PER_NODE": str(LIMIT)}
    with running(tmp_path / "data", settings=settings) as cluster:
        assert mailbox_processes(cluster) == set()
        accounts = []
        for number in range(1, LIMIT + 2):
            # Mail right after `account add` is accepted: it returns when the shard serves.
            accounts.append(cluster.add_account(f"user{number}@example.test", PASSWORD))
            send(cluster, f"user{number}@example.test", f"to {number}", timeout_s=0)
            assert len(mailbox_processes(cluster)) == min(number, LIMIT)
        shards = [account["shard"] for account in accounts]
        assert len(set(shards[:LIMIT])) == LIMIT
        assert shards[LIMIT] in shards[:LIMIT]
        sizes = {shard["id"]: shard["mailboxes"] for shard in cluster.status()["shards"]}
        assert sizes[shards[LIMIT]] == 2
        # Those who share a process share nothing else.
        for number, account in enumerate(accounts, 1):
            address, mailbox = account["address"], account["account"]
            assert subjects(cluster, address, PASSWORD, mailbox) == [f"to {number}"]
