"""Writing directories whole or not at all, whatever else happens at the same time."""
