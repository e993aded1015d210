"""A synthetic crawl with its truth: made-up sites whose every page, copy, formula and planted text is known."""
