"""What all packages build on: errors, files, provenance, text for pages. Standard library and pydantic only."""
