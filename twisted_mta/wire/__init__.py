"""Protocol engines: octets in, events out, no sockets."""
