"""Images to batches of views: sources, decoding, crops, color operations, regions."""
