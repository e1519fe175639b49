"""Metrics: Prometheus text, the samples of a name together."""

from cluster.metrics import text, with_ratios


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


def test_caches_tell_how_often_they_were_of_use() -> None:
    found = with_ratios({"a_hits_total": 3, "a_misses_total": 1, "b_hits_total": 0, "turns": 7})
    assert (found["a_hit_ratio"], found["b_hit_ratio"]) == (0.75, 0.0)
    assert len(found) == 6
