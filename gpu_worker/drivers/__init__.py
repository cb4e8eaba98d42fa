"""Ways to run a model server; each driver is one file behind the same port."""
