"""Pictures of what the stages measured. They only look: nothing here changes a result."""
