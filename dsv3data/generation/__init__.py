"""Text from a trained model: latent cache, absorbed attention, speculation by the MTP module."""
