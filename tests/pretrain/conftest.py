"""Being here puts this folder on the import path: its helper modules also serve the folders below."""
