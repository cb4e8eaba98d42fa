"""What joins Hotseat to programs of other people."""
