"""The scores service: checks signed score updates and commits them, many to a transaction."""
