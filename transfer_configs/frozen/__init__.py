"""Track frozen: ResNets at small input sizes, minutes per checkpoint on two CPU cores."""
