"""Track heads: the data and models of other tracks, learning rate and weight decay chosen for each checkpoint."""
