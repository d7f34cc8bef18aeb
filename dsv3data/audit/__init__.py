"""Reading finished data back: proofs, views for people, and the state of the machine."""
