"""Other programs' configurations: read into a draft of ours, with a list of what it cannot hold."""
