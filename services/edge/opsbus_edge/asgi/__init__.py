"""HTTP: the application, the express lane, REST, health and metrics."""
