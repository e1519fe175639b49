"""Metrics: Prometheus text, the samples of a name together."""

from cluster.metrics import text


def test_text() -> None:
    samples = [
        ("shard_epoch", {"shard": 1}, 3),
        ("smtp_accepted", {}, 12345678),
        ("shard_epoch", {"shard": 2}, 0.5),
    ]
    assert text(samples) == (
        'heliograph_shard_epoch{shard="1"} 3\n'
        'heliograph_shard_epoch{shard="2"} 0.5\n'
        "heliograph_smtp_accepted 12345678\n"
    )
