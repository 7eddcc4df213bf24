"""How results are made: Prefect flows, one a file. A flow is a table of contents."""
