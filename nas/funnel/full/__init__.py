"""Full training of the finalists: the plan, and its execution."""
