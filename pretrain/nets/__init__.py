"""Networks: backbones, heads, and batch norm over parts of a batch or over all processes."""
