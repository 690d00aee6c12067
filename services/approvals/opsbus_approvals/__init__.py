"""Second persons approve or decline calls that wait for them."""
