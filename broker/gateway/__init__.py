"""What the data path decides, without a socket: who asks, how long to keep silent, what to say in whose protocol."""
