"""A period of the record as one readable page: who called what, how it ended, what was denied, what was changed."""
