"""Builds the whole estate into an empty store: the order of the telling, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from opsbus_sandbox.estate.access import create_access, create_standard_access
from opsbus_sandbox.estate.apps import APPS, RECOMMENDATIONS
from opsbus_sandbox.estate.cluster import create_namespaces, create_nodes, create_system_namespaces
from opsbus_sandbox.estate.extras import create_extras
from opsbus_sandbox.estate.history import tell_history
from opsbus_sandbox.estate.running import create_app
from opsbus_sandbox.estate.trouble import create_autoscaler, roll_out_checkout, starve_recommendations
from opsbus_sandbox.kube.store import ObjectStore


def build_estate(store: ObjectStore) -> None:
    """Fill an empty store with cluster `lab` as it is at this moment of the story."""
    now = store.clock.now()
    create_namespaces(store, now)
    create_access(store)
    create_nodes(store, now)
    for app in APPS:
        # The third recommendations pod comes last, when the cluster is full.
        create_app(store, replace(app, replicas=2) if app is RECOMMENDATIONS else app, now)
    create_extras(store, now)
    roll_out_checkout(store, now)
    starve_recommendations(store, now)
    create_autoscaler(store, now)
    tell_history(store, now)


def build_bare(store: ObjectStore) -> None:
    """Fill an empty store with what an API server makes for itself, and nothing else."""
    create_system_namespaces(store, store.clock.now())
    create_standard_access(store)
