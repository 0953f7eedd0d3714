"""Where runs are executed: in processes of this machine, or as jobs of a cluster. The results are the same."""
