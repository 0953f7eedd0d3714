"""Stages that find something in every image without labels, for the methods that train with it."""
