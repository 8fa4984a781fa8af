"""From a table and a store to batches."""
