"""HTTP: hot paths as plain routes with msgspec, the control plane with FastAPI, problem documents everywhere."""
