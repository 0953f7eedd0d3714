"""What several protocols share, as pure functions: arguments in, a part of a config out.

A protocol's hash covers what these functions return, not how: rewriting one is free as long as every value stays.
Each call returns new dictionaries, so that a change to one part of a config never shows in another. A part imports
nothing but its neighbours, and reading it needs no other library.
"""
