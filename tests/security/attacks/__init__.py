"""The attack table: a module for each topic, with a list ATTACKS of rows. A row: model.py; the attacked: world.py."""
