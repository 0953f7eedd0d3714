"""Compares methods: several recipes are pretrained and evaluated under one budget, as a grid of cached steps."""
