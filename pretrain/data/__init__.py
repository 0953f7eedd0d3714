"""Makes batches of views from images: sources, decoding, crops, color operations, regions."""
