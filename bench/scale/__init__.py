"""What becomes of the cost of a call when there is more of something: clients, bytes, tools, workers, edges."""
