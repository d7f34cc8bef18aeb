"""The frame of every stage: an output folder held for one plan, work units done once each."""
