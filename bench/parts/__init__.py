"""What several benchmarks use: clients, other programs as baselines, processes."""
