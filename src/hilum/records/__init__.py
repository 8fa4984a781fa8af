"""What is known of each radiograph."""
