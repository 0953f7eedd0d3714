"""Paints data in the layouts of the standard data sets: textured objects that recur, at run time, from a seed."""
