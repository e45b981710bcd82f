"""Models for inspect-ai: the engine in this process, and OpenAI-compatible endpoints."""
