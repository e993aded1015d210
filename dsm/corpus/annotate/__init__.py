"""`stage=annotate`: a local web page on which people decide about the URL paths of candidate domains."""
