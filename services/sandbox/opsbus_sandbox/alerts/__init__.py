"""Alertmanager's API v2: what fires, grouped, silenced and inhibited. Whether something fires is the rules' matter."""
