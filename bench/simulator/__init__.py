"""A virtual GPU for judging policies: the same physics for ours and for others."""
