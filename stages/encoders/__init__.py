"""Networks that turn tiles into vectors: those of a run, one that ships, and those a user brings as files."""
