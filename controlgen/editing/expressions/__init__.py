"""The language of expressions: parser, evaluator, resolver, and the files it may read."""
