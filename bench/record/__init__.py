"""What the record costs."""
