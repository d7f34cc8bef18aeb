"""The library of dsv3data: contracts, io, encoding, packing, loader, model and training."""

__version__ = "0.1.0"
