"""The steps that turn documents into shards, and the executors that run them."""
