"""What people look at: one palette, maps and boxes on axes, systems side by side where they differ most, contact sheets."""
