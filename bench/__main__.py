"""`python -m bench` is the `densebench` command."""

from bench.cli import main

main()
