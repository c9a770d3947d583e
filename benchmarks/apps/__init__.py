"""Programs for people: restoring photographs, a demo, datasets, ratings."""
