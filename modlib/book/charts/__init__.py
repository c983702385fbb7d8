"""Charts of records whose controls answer on a static page, without a kernel."""
