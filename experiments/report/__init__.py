"""What people read of a comparison: tables, plots, pages."""
