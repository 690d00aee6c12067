"""The record as files: exact bytes for a verifier, readable forms for people and other systems, a signed manifest."""
