"""Track frozen: ResNets at small input sizes, minutes a checkpoint on two CPU cores."""
