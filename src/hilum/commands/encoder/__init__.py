"""Commands on encoders and the weights files they come in."""
