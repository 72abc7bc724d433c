"""Token classification: entities and other spans in a text."""
