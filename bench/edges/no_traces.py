"""The edge without its traces: no endpoint for them, by a setting."""

from bench.edges.without import run

SETTINGS = {"otel_exporter_otlp_endpoint": ""}

if __name__ == "__main__":
    run(settings=SETTINGS)
