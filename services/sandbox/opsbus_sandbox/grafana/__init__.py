"""The part of Grafana's HTTP API that dashboards need. Rendering is a person's browser's matter, not ours."""
