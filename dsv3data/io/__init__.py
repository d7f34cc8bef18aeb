"""Files: atomic publication, checksums, shards, document sources, locks and the work ledger."""
