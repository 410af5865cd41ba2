"""Reports for people: text, plots, pages."""
