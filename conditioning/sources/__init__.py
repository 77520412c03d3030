"""One module a source: the dialects in which its providers write. Contract and column map of the same name lie beside."""
