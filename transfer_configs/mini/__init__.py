"""Track mini: ResNets and ViTs at small input sizes, minutes a checkpoint on two CPU cores."""
