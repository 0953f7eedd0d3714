"""Results in, fair tables out. Needs no torch: it runs anywhere in a second."""
