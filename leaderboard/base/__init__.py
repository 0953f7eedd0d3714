"""What all packages stand on: errors, files, provenance, text for pages. Standard library and pydantic only."""
