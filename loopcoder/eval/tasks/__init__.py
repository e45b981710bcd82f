"""The benchmarks as inspect-ai tasks: what is asked (`ask`) and how it is scored (`executed`)."""
