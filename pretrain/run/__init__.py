"""Training runs: the loop, the run's folder, log and pages, and its processes and devices."""
