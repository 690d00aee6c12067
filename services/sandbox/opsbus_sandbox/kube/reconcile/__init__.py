"""The controllers: what turns the wishes in `spec` into the facts in `status`, over seconds."""
