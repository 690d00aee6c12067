"""Proving that the record is what was recorded.

What a verifier needs, with `cryptography` and `pydantic`, no bus and no store: merkle.py, leaf.py, note.py,
checkpoint.py, bundle.py, line.py, piece.py, hashing.py, roots.py, match.py, finding.py and offline.py. The rest belongs
to the worker: tree.py and signer.py build and sign, stored.py reads the store, in_store.py and live.py check store and
stream, witness.py is somebody outside who watches.
"""
