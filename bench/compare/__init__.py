"""Comparing methods: several recipes pretrained and evaluated under one budget, as a grid of cached steps."""
