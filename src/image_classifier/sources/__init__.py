"""Files of any kind, fetched, verified and decoded to arrays. Only stage download depends on this room."""
