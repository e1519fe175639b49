"""Keep one shard on disk: RocksDB, the replicated log, the search index."""
