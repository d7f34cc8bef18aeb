"""Words that every room shares: errors, config, keys, control tokens, manifest, progress."""
