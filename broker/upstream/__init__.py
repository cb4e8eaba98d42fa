"""A small HTTP/1.1 client that hands on a model server's bytes as they come."""
