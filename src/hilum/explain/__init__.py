"""What an encoder looked at, drawn on the film."""
