"""Where a request is served: pure rules over a described request and a described state. No clock, no I/O."""
