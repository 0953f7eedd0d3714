"""Track mini: ResNets and ViTs at small input sizes, minutes per checkpoint on two CPU cores."""
