"""Parts that several protocols share, as pure functions from arguments to a part of a config.

A protocol's hash covers the values that these functions return: one may be rewritten as long as every value stays.
Each call returns new dictionaries, so that changing one part of a config never changes another. A part imports
nothing but its neighbors, and reading it needs no other library.
"""
