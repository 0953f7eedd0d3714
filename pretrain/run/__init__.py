"""A run: the training loop, its folder, log and pages, and the processes and devices that it is on."""
