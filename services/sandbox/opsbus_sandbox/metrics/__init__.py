"""The estate's monitoring: what it measures of itself, kept in memory and answered over Prometheus' HTTP API."""
