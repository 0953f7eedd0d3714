"""Parts that methods share: losses, geometry, queues, momentum networks, exchange between processes."""
