"""What measurements leave behind: rows of JSONL, and the machine they were taken on. No torch."""

from loopcoder.records.machine import available_bytes, machine, resident_bytes

__all__ = ["available_bytes", "machine", "resident_bytes"]
