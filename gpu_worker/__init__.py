"""The daemon on the GPU host: compares what should be with what is and takes one step at a time."""
