"""Hold sockets and no durable state."""
