"""One module a source: the dialects of its providers. Contract and column map of the same name lie beside."""
