"""What a model looked at: maps of films by gradients, hiding, attention or scored patches."""
