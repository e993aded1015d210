"""Texts that are no web pages: the other parts of the paper's mix, made up like the crawl, with nothing held out."""
