"""One file per command. Heavy libraries are imported inside the functions that need them."""
