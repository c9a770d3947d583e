"""The tables and figures of the papers: data in ``tables/``, one engine for all of them."""
