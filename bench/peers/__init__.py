"""Firn beside Apache Kafka on the same machine, with the same client: `make bench-peers`, see docs/benchmarks.md."""
