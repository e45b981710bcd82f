"""Benchmarks with harnesses of their own, run against `loopcoder serve`."""
