"""Proving that the record is what was recorded.

merkle.py, leaf.py, note.py, checkpoint.py, bundle.py and check.py are what a verifier needs: the standard library and
`cryptography`, no bus and no store. The rest belongs to the worker: tree.py and signer.py build and sign, stored.py
and live.py read the store and the stream for a verifier, witness.py is somebody outside who watches.
"""
