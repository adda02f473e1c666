"""The same requests to Firn and to Apache Kafka, answers compared field by field."""
