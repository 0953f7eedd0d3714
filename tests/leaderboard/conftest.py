"""Being here puts this folder on the import path: its helper module also serves the folders below."""
