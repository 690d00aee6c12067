"""A directory's password for a token of this edge: directory.py asks, throttle.py slows down who guesses, tokens.py
signs, endpoint.py is ``POST /auth/token``. What the settings are: settings/directory.py.
"""
