"""Track custom: the data of the user."""
