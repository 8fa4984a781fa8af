"""Commands on the table of radiographs itself."""
