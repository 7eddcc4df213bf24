"""Small helpers that know nothing of this project: files, threads, cancellation, progress."""
