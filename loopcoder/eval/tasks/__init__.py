"""The benchmarks as inspect-ai tasks."""
