"""How the story is run: the command line, the runner, the seals, the report."""
