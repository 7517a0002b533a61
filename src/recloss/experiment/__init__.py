"""What is run? A configuration, its runs and their settings, their plan, what they leave behind."""
