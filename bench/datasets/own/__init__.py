"""The user's own data: what its description says, how its files are read, checked and guessed."""
